// SPDX-License-Identifier: Apache-2.0
//! Reference counts of pools against Docker's list of networks, which may be older than the records.

use std::time::Duration;

use ciao_ipam::reconcile::{networks_by_pool, release_unused, unsettled_since};
use serde_json::{Value, json};

use crate::bench::Bench;

/// Docker's list with this number of networks on acme's pool.
fn list(networks: usize) -> Value {
    let config = json!({ "Subnet": "10.5.0.0/16" });
    let ipam = json!({ "Driver": "ciao-ipam", "Options": { "tenant": "acme" }, "Config": [config] });
    vec![json!({ "IPAM": ipam }); networks].into()
}

fn reconcile(b: &Bench, networks: usize, unsettled: i64) -> usize {
    release_unused(&b.store, networks_by_pool(&list(networks)).unwrap(), unsettled, false).unwrap().len()
}

/// A time that is after all that was done before, and before all that is done next.
fn between(b: &mut Bench) -> i64 {
    b.later(Duration::from_secs(1));
    let time = b.store.now();
    b.later(Duration::from_secs(1));
    time
}

#[test]
fn references_without_a_network_are_released_and_the_others_stay() {
    let mut b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.tenant_pool("acme", "10.5.0.0/16");
    b.tenant_pool("acme", "10.5.0.0/16");
    let unsettled = between(&mut b);
    assert_eq!(reconcile(&b, 3, unsettled), 0);
    let unsettled = between(&mut b);
    assert_eq!(reconcile(&b, 2, unsettled), 1);
    b.release_pool(&pool);
    assert!(b.ask(&pool, "").is_ok(), "two networks were on it");
    let unsettled = between(&mut b);
    assert_eq!(reconcile(&b, 0, unsettled), 1);
    assert!(b.ask(&pool, "").is_err());
}

#[test]
fn a_reference_younger_than_docker_s_list_is_never_released() {
    let mut b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    let unsettled = between(&mut b);
    b.tenant_pool("acme", "10.5.0.0/16");
    assert_eq!(reconcile(&b, 1, unsettled), 0, "the list has the first network alone");
    assert_eq!(reconcile(&b, 0, unsettled), 0);
    b.release_pool(&pool);
    assert_eq!(reconcile(&b, 0, unsettled), 0, "which of them was released is not known");
    assert!(b.ask(&pool, "").is_ok(), "the second network is on it");
}

#[test]
fn a_reference_whose_network_may_still_be_in_creation_is_left_alone() {
    let mut b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    between(&mut b);
    assert_eq!(reconcile(&b, 0, unsettled_since(&b.store, Duration::ZERO)), 0);
    assert!(b.ask(&pool, "").is_ok());
}

/// Docker's list has no tenant of a network that named it to ciao-net alone: what ciao-net recorded counts.
#[test]
fn a_pool_whose_tenant_was_passed_to_ciao_net_alone_is_kept() {
    let mut b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.network("acme", "10.5.0.0/16", "10.5.0.1");
    b.tenant_pool("acme", "10.5.0.0/16");
    let unsettled = between(&mut b);
    assert_eq!(reconcile(&b, 0, unsettled), 1, "one reference is nobody's");
    let unsettled = between(&mut b);
    assert_eq!(reconcile(&b, 0, unsettled), 0, "the other is that network's");
    assert!(b.ask(&pool, "").is_ok());
}
