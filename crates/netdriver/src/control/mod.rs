// SPDX-License-Identifier: Apache-2.0
//! The control socket: HTTP with JSON for launchers, controllers and the command line. `GET /v1/openapi.json` describes
//! it.

mod events;
mod exchange;
mod hosts;
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

use ciao_common::serve::routes::{About, Route, Routes};

use crate::Driver;

pub use metrics::Report;
pub use reconcile::{RECONCILE_WITHIN, requests};
pub use show::NetworkReply;
pub use status::StatusReply;

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

fn table() -> Vec<Route<Arc<Driver>>> {
    let resources = [
        vnics::routes(),
        networks::routes(),
        pages::routes(),
        hosts::routes(),
        reach::routes(),
        remotes::routes(),
        events::routes(),
        status::routes(),
        reconcile::routes(),
    ];
    resources.into_iter().flatten().collect()
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
