// SPDX-License-Identifier: Apache-2.0
//! The control socket: HTTP with JSON for launchers, controllers and the command line. `GET /v1/openapi.json` describes
//! it.

mod events;
mod exchange;
mod lists;
mod metrics;
mod networks;
mod pages;
mod reach;
mod reconcile;
mod remotes;
mod show;
mod status;
mod tunnels;
mod vnics;

use std::sync::Arc;
use std::time::Duration;

use ciao_common::serve::events::{EVENTS, EventQuery};
use ciao_common::serve::routes::{About, Route, Routes};
use ciao_common::types::{HostId, NetworkId, TenantId, VnicId};

use crate::Driver;
use crate::launcher::{DeletionReply, VnicChange, VnicReply, VnicRequest};
use crate::reconcile::{Known, Recorded, Repair};
use lists::{
    ChangeRequest, Conflict, DeleteRequest, HostsReply, HostsRequest, RemotesReply, RemotesRequest, StateReply,
    TenantReply,
};
use pages::{EndpointItem, EndpointsQuery, NetworkItem, NetworksQuery, PortItem};
use reach::MtuReply;
use reconcile::ReconcileQuery;
use vnics::{DeleteQuery, VnicQuery};

pub use metrics::Report;
pub use reconcile::requests;
pub use show::NetworkReply;
pub use status::StatusReply;

/// How long a reconcile may take to be answered: it checks every network of the host, and an administrator can wait.
pub const RECONCILE_WITHIN: Duration = Duration::from_secs(120);

/// What answers on the control socket.
pub type Control = Routes<Arc<Driver>>;

const ABOUT: About = About {
    title: "ciao-net control",
    description: "The control interface of ciao-net: VNICs, created before their containers and deleted on request; the \
                  hosts of a cluster and where a tenant's addresses are; lists, status, reconciliation.",
    version: env!("CARGO_PKG_VERSION"),
};

/// The control socket of a driver.
pub fn routes(driver: Arc<Driver>) -> Control {
    Routes::new(driver, ABOUT, table)
}

const APPLIED: &str = "Applied, or already applied.";
const STALE: &str = "Stale generation, different content for the same generation, or wrong base; returns the recorded \
                     generation and digest.";

fn table() -> Vec<Route<Arc<Driver>>> {
    vec![
        Route::get("/v1/vnics", "listVnics", "List VNICs of launchers and of Docker.", vnics::list)
            .query::<VnicQuery>()
            .list::<VnicReply>("Oldest first."),
        Route::post(
            "/v1/vnics",
            "createVnic",
            "Create a VNIC. Idempotent: a repeated request returns the same VNIC.",
            vnics::create,
        )
        .body::<VnicRequest>()
        .reply::<VnicReply>(201, "Created.")
        .reply::<VnicReply>(200, "It exists already.")
        .fails(&[409, 422]),
        Route::get("/v1/vnics/{id}", "showVnic", "Show a VNIC.", vnics::show)
            .parameter::<VnicId>("ID of the VNIC.")
            .reply::<VnicReply>(200, "The VNIC.")
            .fails(&[404]),
        Route::patch(
            "/v1/vnics/{id}",
            "changeVnic",
            "Change the rate limit and the additional addresses of a VNIC, while it is in use.",
            vnics::change,
        )
        .parameter::<VnicId>("ID of the VNIC.")
        .body::<VnicChange>()
        .reply::<VnicReply>(200, "The changed VNIC.")
        .fails(&[404, 409, 422]),
        Route::delete(
            "/v1/vnics/{id}",
            "deleteVnic",
            "Delete a VNIC and its address reservation. An unknown VNIC is not an error.",
            vnics::delete,
        )
        .parameter::<VnicId>("ID of the VNIC.")
        .query::<DeleteQuery>()
        .reply::<DeletionReply>(200, "Deleted, now or before.")
        .fails(&[409]),
        Route::get("/v1/networks", "listNetworks", "List Docker networks of driver ciao-net.", pages::networks)
            .query::<NetworksQuery>()
            .page::<NetworkItem>(),
        Route::get(
            "/v1/networks/{id}",
            "showNetwork",
            "Show a Docker network with its namespace, uplink, published ports and rules.",
            networks::show,
        )
        .parameter::<NetworkId>("Docker's ID of the network, or a prefix of it.")
        .reply::<NetworkReply>(200, "The network.")
        .fails(&[404, 409]),
        Route::get("/v1/endpoints", "listEndpoints", "List containers' attachments to networks.", pages::endpoints)
            .query::<EndpointsQuery>()
            .page::<EndpointItem>(),
        Route::get("/v1/ports", "listPorts", "List published ports.", pages::ports)
            .query::<EndpointsQuery>()
            .page::<PortItem>(),
        Route::get("/v1/hosts", "listHosts", "List the hosts of the cluster.", remotes::hosts)
            .reply::<HostsReply>(200, "The list that was given last."),
        Route::put(
            "/v1/hosts",
            "replaceHosts",
            "Replace the list of hosts. The same body goes to every host: this one is that with an address of this machine.",
            remotes::give_hosts,
        )
        .body::<HostsRequest>()
        .reply::<StateReply>(200, APPLIED)
        .reply::<Conflict>(409, STALE)
        .fails(&[422]),
        Route::get(
            "/v1/hosts/{id}/mtu",
            "measureMtu",
            "Find the largest packet that another host answers. It takes seconds.",
            reach::measure,
        )
        .parameter::<HostId>("ID of another host.")
        .reply::<MtuReply>(200, "What was found.")
        .fails(&[404])
        .within(RECONCILE_WITHIN),
        Route::get(
            "/v1/remotes",
            "listRemotes",
            "List the tenants whose remotes were given, to compare their digests.",
            remotes::list,
        )
        .list::<TenantReply>("One for each tenant."),
        Route::get("/v1/tenants/{tenant}/remotes", "showRemotes", "Show a tenant's remotes.", remotes::show)
            .parameter::<TenantId>("The tenant.")
            .reply::<RemotesReply>(200, "The list that was given last.")
            .fails(&[404]),
        Route::put(
            "/v1/tenants/{tenant}/remotes",
            "replaceRemotes",
            "Replace a tenant's remotes: where each of its addresses is. The same body goes to every host.",
            remotes::give,
        )
        .parameter::<TenantId>("The tenant.")
        .body::<RemotesRequest>()
        .reply::<StateReply>(200, APPLIED)
        .reply::<Conflict>(409, STALE)
        .fails(&[422]),
        Route::patch(
            "/v1/tenants/{tenant}/remotes",
            "changeRemotes",
            "Change some of a tenant's remotes.",
            remotes::change,
        )
        .parameter::<TenantId>("The tenant.")
        .body::<ChangeRequest>()
        .reply::<StateReply>(200, APPLIED)
        .reply::<Conflict>(409, STALE)
        .fails(&[422]),
        Route::delete(
            "/v1/tenants/{tenant}/remotes",
            "deleteRemotes",
            "Delete a tenant's remotes: the list of that generation is empty.",
            remotes::delete,
        )
        .parameter::<TenantId>("The tenant.")
        .body::<DeleteRequest>()
        .reply::<StateReply>(200, APPLIED)
        .reply::<Conflict>(409, STALE),
        Route::get(
            EVENTS,
            "listEvents",
            "List when which container had which address and host port: the newest 100,000 events, oldest first.",
            events::list,
        )
        .query::<EventQuery>()
        .lines::<events::Event>("One event a line."),
        Route::get("/v1/status", "showStatus", "Counts, and problems with their remedies.", status::show)
            .reply::<StatusReply>(200, "Status of the daemon."),
        Route::get(
            "/v1/records",
            "showRecords",
            "The IDs of Docker's networks and endpoints that are recorded.",
            reconcile::recorded,
        )
        .reply::<Recorded>(200, "What is recorded."),
        Route::post("/v1/reconcile", "reconcile", "Reconcile the database with the kernel.", reconcile::run)
            .query::<ReconcileQuery>()
            .optional_body::<Known>(
                "Docker's lists: records of other networks and endpoints are removed, except those of running \
                 containers, and lost ones are made again. Where a body would be larger than 1 MiB, the networks come in \
                 several requests with more=true, which remove nothing, and the last request has no details.",
            )
            .list::<Repair>("The changes.")
            .fails(&[409, 422])
            .within(RECONCILE_WITHIN),
    ]
}

#[cfg(test)]
mod tests {
    use crate::launcher::VnicRequest;

    #[test]
    fn an_unknown_field_is_named() {
        let error = ciao_common::api::parse::<VnicRequest>(br#"{"tenat":"x"}"#).unwrap_err().to_string();
        assert!(error.contains("tenat") && error.contains("tenant"), "{error}");
    }
}
