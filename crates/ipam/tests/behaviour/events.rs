// SPDX-License-Identifier: Apache-2.0
//! Which addresses other network drivers' containers had when.

use std::sync::Arc;

use ciao_common::serve::events::EVENTS;
use ciao_common::serve::server::{Handler, Request};
use ciao_ipam::control;
use serde_json::Value;

use crate::bench::Bench;

/// Kind, tenant and address of each event, as the control socket tells.
fn events(b: &Bench, query: &str) -> Vec<String> {
    let reply = control::routes(Arc::clone(&b.store)).handle(Request { method: "GET", path: EVENTS, query, body: b"" });
    assert_eq!(reply.status, 200);
    let lines = reply.lines.unwrap();
    let (text, _) = (lines.read)(0).unwrap().unwrap_or_default();
    let shown = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        ["kind", "tenant", "address"].map(|key| event[key].as_str().unwrap_or("-").to_owned()).join(" ")
    };
    String::from_utf8(text).unwrap().lines().map(shown).collect()
}

#[test]
fn a_lease_is_an_event_unless_ciao_net_has_its_network() {
    let b = Bench::new();
    let other = b.tenant_pool("red", "10.5.0.0/24");
    let known = b.tenant_pool("blue", "10.6.0.0/24");
    b.network("blue", "10.6.0.0/24", "10.6.0.1");
    for (pool, gateway, address) in [(&other, "10.5.0.1", "10.5.0.9"), (&known, "10.6.0.1", "10.6.0.9")] {
        b.gateway(pool, gateway).unwrap();
        b.ask(pool, address).unwrap();
        b.release(pool, address);
        b.release(pool, address);
    }
    let expected = ["lease red 10.5.0.9", "release red 10.5.0.9"];
    assert_eq!((events(&b, ""), events(&b, "tenant=blue")), (expected.map(str::to_owned).to_vec(), Vec::new()));
}

#[test]
fn leases_that_go_with_their_pool_are_released() {
    let b = Bench::new();
    let pool = b.tenant_pool("red", "10.5.0.0/24");
    b.ask(&pool, "10.5.0.9").unwrap();
    b.release_pool(&pool);
    assert_eq!(events(&b, "tenant=red"), ["lease red 10.5.0.9", "release red 10.5.0.9"]);
}
