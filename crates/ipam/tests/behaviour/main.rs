// SPDX-License-Identifier: Apache-2.0
//! The behaviour of each IPAM call.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod addresses;
mod bench;
#[path = "../clock/mod.rs"]
mod clock;
mod events;
mod leases;
mod lost;
mod pools;
mod reconcile;
mod terms;

use bench::Bench;

#[test]
fn the_set_of_calls_is_pinned() {
    let b = Bench::new();
    let plugin = ciao_ipam::routes::plugin(b.ipam);
    assert_eq!(
        plugin.paths(),
        [
            "/IpamDriver.GetCapabilities",
            "/IpamDriver.GetDefaultAddressSpaces",
            "/IpamDriver.ReleaseAddress",
            "/IpamDriver.ReleasePool",
            "/IpamDriver.RequestAddress",
            "/IpamDriver.RequestPool",
            "/Plugin.Activate",
        ]
    );
}
