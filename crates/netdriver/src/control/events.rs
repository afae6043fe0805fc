// SPDX-License-Identifier: Apache-2.0
//! `/v1/events`: which containers used an address or a host port, and when.

use std::sync::Arc;

use ciao_common::serve::events::{self, EVENTS, EventQuery};
use ciao_common::serve::routes::{Ask, Failure, Route};
use ciao_common::serve::server::Reply;
use ciao_common::store::EventLog;
use ciao_common::types::{EndpointId, InstanceId, MacAddr, NetworkId, TenantId, VnicId};
use utoipa::ToSchema;

use crate::Driver;

/// An event, as described; it is read as it is recorded.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described")]
pub(super) struct Event {
    /// Ascending.
    id: i64,
    /// By the host's clock, UTC.
    #[schema(value_type = String, format = DateTime, examples("2026-11-24T08:00:00.123Z"))]
    time: String,
    kind: Kind,
    tenant: Option<TenantId>,
    instance: Option<InstanceId>,
    network: NetworkId,
    endpoint: EndpointId,
    vnic: VnicId,
    address: Option<String>,
    address6: Option<String>,
    mac: Option<MacAddr>,
    /// This and the following: of a port.
    protocol: Option<String>,
    host_address: Option<String>,
    host_port: Option<u16>,
    container_port: Option<u16>,
}

/// What happened.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "only described")]
pub(super) enum Kind {
    /// A container got an address.
    Attach,
    /// It has it no longer.
    Detach,
    /// A port of the host leads to it.
    Publish,
    /// It does so no longer.
    Revoke,
}

pub(super) fn routes() -> Vec<Route<Arc<Driver>>> {
    vec![
        Route::get(
            EVENTS,
            "listEvents",
            "List which containers used an address or a host port, and when: the newest 100,000 events, oldest first.",
            list,
        )
        .query::<EventQuery>()
        .lines::<Event>("One event a line."),
    ]
}

fn list(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    events::reply(&driver.store, EventLog::Endpoints, ask)
}
