// SPDX-License-Identifier: Apache-2.0
//! The control socket, for `ciao-ipam reconcile` beside a running daemon.

use std::fs;
use std::sync::Arc;

use ciao_common::serve::routes::{About, Ask, Failure, Route, Routes, json};
use ciao_common::serve::server::Reply;
use ciao_common::store::Store;

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
        Route::post(RECONCILE, "reconcile", "Release pools without a network of Docker.", reconcile)
            .body::<reconcile::Request>()
            .list::<reconcile::Repair>("The corrections.")
            .fails(&[409]),
    ]
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
    json(200, &reconcile::run(store, wanted)?)
}
