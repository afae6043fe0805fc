// SPDX-License-Identifier: Apache-2.0
//! The control socket: HTTP with JSON for launchers and for the command line. `GET /v1/openapi.json` describes it.
//!
//! Statuses: 400 the request is not valid, 404 no such thing, 409 a conflict with something that exists, 500 disk or
//! kernel. An error is `{"error": sentence}`.

mod metrics;
mod networks;
mod query;
mod reach;
mod reconcile;
mod remotes;
mod reply;
mod show;
mod status;
mod tunnels;
mod vnics;

use std::sync::Arc;
use std::time::Duration;

use ciao_common::serve::server::{ANSWER_WITHIN, Handler, Reply, Request};

use crate::Driver;
use query::Query;
use reply::{Failure, refuse};

pub use metrics::{METHODS, Report};
pub use reconcile::requests;
pub use reply::ErrorReply;
pub use show::NetworkReply;
pub use status::StatusReply;

/// The description of this interface.
pub const OPENAPI: &str = include_str!("openapi.json");

/// How long a reconcile may take to be answered: it checks every network of the host, and an administrator can wait.
pub const RECONCILE_WITHIN: Duration = Duration::from_secs(120);

/// What answers on the control socket.
pub struct Control {
    driver: Arc<Driver>,
}

impl Control {
    /// The launcher's side of a driver.
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    fn route(&self, request: Request<'_>) -> Result<Reply, Failure> {
        let (driver, body) = (&*self.driver, request.body);
        let query = Query::parse(request.query).map_err(Failure::bad_request)?;
        match (request.method, segments(request.path).as_slice()) {
            ("GET", ["v1", "openapi.json"]) => {
                Ok(Reply { status: 200, content_type: "application/json", body: OPENAPI.into() })
            }
            ("POST", ["v1", "vnics"]) => vnics::create(driver, body),
            ("GET", ["v1", "vnics"]) => vnics::list(driver, &query),
            ("GET", ["v1", "vnics", id]) => vnics::show(driver, id),
            ("PATCH", ["v1", "vnics", id]) => vnics::change(driver, id, body),
            ("DELETE", ["v1", "vnics", id]) => vnics::delete(driver, id, query.force),
            ("GET", ["v1", "networks", id]) => networks::show(driver, id),
            ("GET", ["v1", "hosts"]) => remotes::hosts(driver),
            ("GET", ["v1", "hosts", id, "mtu"]) => reach::measure(driver, id),
            ("PUT", ["v1", "hosts"]) => remotes::give_hosts(driver, body),
            ("GET", ["v1", "remotes"]) => remotes::list(driver),
            ("GET", ["v1", "tenants", tenant, "remotes"]) => remotes::show(driver, tenant),
            ("PUT", ["v1", "tenants", tenant, "remotes"]) => remotes::give(driver, tenant, body),
            ("PATCH", ["v1", "tenants", tenant, "remotes"]) => remotes::change(driver, tenant, body),
            ("DELETE", ["v1", "tenants", tenant, "remotes"]) => remotes::delete(driver, tenant, body),
            ("GET", ["v1", "status"]) => status::show(driver),
            ("GET", ["v1", "records"]) => reconcile::recorded(driver),
            ("POST", ["v1", "reconcile"]) => reconcile::run(driver, body, &query),
            (method, _) => Err(Failure(404, format!("{method} {} is unknown: see /v1/openapi.json", request.path))),
        }
    }
}

impl Handler for Control {
    fn handle(&self, request: Request<'_>) -> Reply {
        self.route(request).unwrap_or_else(|Failure(status, text)| refuse(status, &text))
    }

    fn keeps_connections(&self) -> bool {
        false
    }

    fn answer_within(&self, path: &str) -> Duration {
        if matches!(segments(path)[..], ["v1", "reconcile"] | ["v1", "hosts", _, "mtu"]) {
            RECONCILE_WITHIN
        } else {
            ANSWER_WITHIN
        }
    }

    fn refuse(&self, status: u16, text: &str) -> Reply {
        refuse(status, text)
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.trim_matches('/').split('/').collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::launcher::VnicRequest;

    /// The description's fields of a schema, sorted.
    fn described(schema: &str) -> Vec<String> {
        let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
        let properties = openapi["components"]["schemas"][schema]["properties"].as_object().unwrap().clone();
        let mut names: Vec<_> = properties.keys().cloned().collect();
        names.sort();
        names
    }

    #[test]
    fn the_description_has_every_field_of_a_request() {
        let request: VnicRequest = serde_json::from_value(serde_json::json!({
            "tenant": "t", "instance": "i", "subnet": "10.0.0.0/24", "address": "10.0.0.2", "mac": "02:00:00:00:00:02",
            "gateway": "10.0.0.1", "mtu": 1400, "bridge": "b", "host_bridge": "b", "address6": "fd00::2", "subnet6": "fd00::/64", "network": "n",
            "allowed_addresses": ["10.0.0.100"], "rate": "100mbit",
        }))
        .unwrap();
        let value = serde_json::to_value(request).unwrap();
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        assert_eq!(described("VnicRequest"), names);
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = ciao_common::api::parse::<VnicRequest>(br#"{"tenat":"x"}"#).unwrap_err().to_string();
        assert!(error.contains("tenat") && error.contains("tenant"), "{error}");
    }
}
