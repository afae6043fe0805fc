// SPDX-License-Identifier: Apache-2.0
//! The control socket: lists, events, and `ciao-ipam reconcile` beside a running daemon.

use std::fs;
use std::sync::Arc;

use ciao_common::serve::events::{self, EVENTS, EventQuery};
use ciao_common::serve::routes::{About, Ask, Failure, Route, Routes, json};
use ciao_common::serve::server::Reply;
use ciao_common::store::{EventLog, Store};
use ciao_common::types::{Subnet, TenantId};
use utoipa::ToSchema;

use crate::pages::{self, LeaseItem, LeasesQuery, PoolItem, PoolsQuery};
use crate::reconcile;

/// Path of the request.
pub(crate) const RECONCILE: &str = "/v1/reconcile";

/// The control socket of a daemon on `store`.
pub fn routes(store: Arc<Store>) -> Routes<Arc<Store>> {
    let about = About {
        title: "ciao-ipam control",
        description: "The control interface of ciao-ipam, Docker's IPAM plugin for tenants.",
        version: env!("CARGO_PKG_VERSION"),
    };
    Routes::new(store, about, table)
}

fn table() -> Vec<Route<Arc<Store>>> {
    vec![
        Route::get("/v1/pools", "listPools", "List pools that Docker requested.", pages::pools)
            .query::<PoolsQuery>()
            .page::<PoolItem>(),
        Route::get("/v1/leases", "listLeases", "List addresses that are granted or reserved.", pages::leases)
            .query::<LeasesQuery>()
            .page::<LeaseItem>(),
        Route::post(RECONCILE, "reconcile", "Release pools without a network of Docker.", reconcile)
            .body::<reconcile::Request>()
            .list::<reconcile::Repair>("The corrections.")
            .fails(&[409]),
        Route::get(
            EVENTS,
            "listEvents",
            "List which containers of other network drivers used an address, and when: the newest 100,000 events, oldest first.",
            events,
        )
        .query::<EventQuery>()
        .lines::<Event>("One event a line."),
    ]
}

/// An event, as described; it is read as it is recorded.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described")]
struct Event {
    /// Ascending.
    id: i64,
    /// By the host's clock, UTC.
    #[schema(value_type = String, format = DateTime, examples("2026-11-24T08:00:00.123Z"))]
    time: String,
    /// `lease` or `release`.
    kind: String,
    tenant: Option<TenantId>,
    space: String,
    subnet: Subnet,
    address: String,
}

fn events(store: &Arc<Store>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    events::reply(store, EventLog::Leases, ask)
}

fn reconcile(store: &Arc<Store>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let wanted: reconcile::Request = ask.body()?;
    let own = store.path();
    if wanted.db != own && fs::canonicalize(&wanted.db).ok() != fs::canonicalize(own).ok() {
        let (other, own) = (wanted.db.display(), own.display());
        return Err(Failure(
            409,
            format!("ciao-ipam runs on database {own}, not on {other}: give --db {own}, or stop it"),
        ));
    }
    json(200, &reconcile::run(store, wanted).map_err(Failure::conflict)?)
}
