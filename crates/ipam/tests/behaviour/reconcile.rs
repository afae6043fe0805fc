// SPDX-License-Identifier: Apache-2.0
//! Reference counts of pools against Docker's list of networks, which may be older than the records.

use std::time::Duration;

use ciao_common::types::PoolId;
use ciao_ipam::reconcile::{Request, listed_pools, run};
use serde_json::{Value, json};

use crate::bench::{Bench, sentence};

const ACME: &str = "10.5.0.0/16";
const MINUTES: Duration = Duration::from_secs(120);

/// A network of Docker's list: its number, IPAM driver, tenant, subnet, range.
fn network(number: usize, driver: &str, tenant: &str, subnet: &str, range: &str) -> Value {
    let options = if tenant.is_empty() { Value::Null } else { json!({ "tenant": tenant }) };
    let config = json!({ "Subnet": subnet, "IPRange": range });
    let ipam = json!({ "Driver": driver, "Options": options, "Config": [config] });
    json!({ "Id": format!("{number:064x}"), "Driver": "macvlan", "IPAM": ipam, "Containers": {} })
}

/// The one that ciao-net recorded.
fn recorded(tenant: &str, subnet: &str) -> Value {
    let mut network = network(0, "ciao-ipam", tenant, subnet, "");
    network["Id"] = json!("7".repeat(64));
    network
}

/// Docker's list with this number of networks on acme's pool.
fn list(networks: usize) -> Value {
    (0..networks).map(|number| network(number, "ciao-ipam", "acme", ACME, "")).collect()
}

/// A request with a list that is as old as given.
fn request(networks: &Value, age: Duration) -> Request {
    let (engine, networks) = (Some("E".to_owned()), listed_pools(networks).unwrap());
    let age = age.as_millis().try_into().unwrap();
    Request { db: "ciao.db".into(), dry_run: false, force: false, age, engine, networks }
}

fn forced(networks: &Value, age: Duration) -> Request {
    Request { force: true, ..request(networks, age) }
}

fn reconcile(b: &Bench, networks: &Value) -> usize {
    run(&b.store, request(networks, Duration::ZERO)).unwrap().len()
}

/// A pool without a tenant.
fn own(b: &Bench, range: &str) -> PoolId {
    b.pool(ACME, range, &[]).unwrap().0
}

#[test]
fn references_without_a_network_are_released_and_the_others_stay() {
    let mut b = Bench::new();
    let pool = b.tenant_pool("acme", ACME);
    b.tenant_pool("acme", ACME);
    b.tenant_pool("acme", ACME);
    b.later(MINUTES);
    assert_eq!(reconcile(&b, &list(3)), 0);
    assert_eq!(reconcile(&b, &list(2)), 1);
    b.release_pool(&pool);
    assert!(b.ask(&pool, "").is_ok(), "two networks were on it");
    assert_eq!(run(&b.store, forced(&list(0), Duration::ZERO)).unwrap().len(), 1);
    assert!(b.ask(&pool, "").is_err());
}

#[test]
fn a_reference_younger_than_docker_s_list_is_never_released() {
    let mut b = Bench::new();
    let pool = b.tenant_pool("acme", ACME);
    b.later(MINUTES);
    b.tenant_pool("acme", ACME);
    b.later(MINUTES);
    // Of the time between the two.
    let age = MINUTES + Duration::from_secs(30);
    assert_eq!(run(&b.store, request(&list(1), age)).unwrap().len(), 0, "the list has the first network alone");
    assert_eq!(run(&b.store, request(&list(0), age)).unwrap().len(), 0);
    b.release_pool(&pool);
    assert_eq!(run(&b.store, request(&list(0), age)).unwrap().len(), 0, "which of them was released is not known");
    assert!(b.ask(&pool, "").is_ok(), "the second network is on it");
}

#[test]
fn a_reference_whose_network_may_still_be_in_creation_is_left_alone() {
    let mut b = Bench::new();
    let pool = b.tenant_pool("acme", ACME);
    b.later(Duration::from_secs(30));
    assert_eq!(reconcile(&b, &list(0)), 0);
    assert!(b.ask(&pool, "").is_ok());
}

/// Docker's list has no tenant of a network that named it to ciao-net alone: what ciao-net recorded counts.
#[test]
fn a_pool_whose_tenant_was_passed_to_ciao_net_alone_is_kept() {
    let mut b = Bench::new();
    let pool = b.tenant_pool("acme", ACME);
    b.network("acme", ACME, "10.5.0.1");
    b.tenant_pool("acme", ACME);
    b.later(MINUTES);
    assert_eq!(reconcile(&b, &json!([recorded("", ACME)])), 1, "one reference is nobody's");
    assert_eq!(reconcile(&b, &json!([recorded("", ACME)])), 0, "the other is that network's");
    assert!(b.ask(&pool, "").is_ok());
}

#[test]
fn a_tenant_s_pool_is_counted_for_a_network_of_ciao_net_and_for_one_of_another_driver() {
    let mut b = Bench::new();
    let pool = b.tenant_pool("acme", ACME);
    b.network("acme", ACME, "10.5.0.1");
    b.tenant_pool("acme", ACME);
    b.later(MINUTES);
    for tenant in ["", "acme"] {
        let both = json!([recorded(tenant, ACME), network(1, "ciao-ipam", "acme", ACME, "")]);
        assert_eq!(reconcile(&b, &both), 0, "{tenant:?}");
    }
    b.release_pool(&pool);
    assert!(b.ask(&pool, "").is_ok(), "one of the two is on it");
}

/// One without a tenant that a network of ciao-net is on, and another driver's of the same subnet.
#[test]
fn another_driver_s_pool_is_kept_beside_a_network_of_ciao_net_with_the_same_subnet() {
    for range in ["", "10.5.128.0/17"] {
        let mut b = Bench::new();
        let pools = [own(&b, ""), own(&b, range)];
        b.own_network(&pools[0], "10.5.0.1");
        b.ask(&pools[1], "").unwrap();
        b.later(MINUTES);
        let both = json!([recorded("", ACME), network(1, "ciao-ipam", "", ACME, range)]);
        assert_eq!(reconcile(&b, &both), 0, "{range}");
        assert_eq!(reconcile(&b, &json!([recorded("", ACME)])), 1, "without that network, its pool is nobody's");
        assert!(b.ask(&pools[0], "").is_ok() && b.ask(&pools[1], "").is_err());
    }
}

#[test]
fn which_of_several_networks_of_other_drivers_is_gone_is_not_known() {
    let mut b = Bench::new();
    let pools = [own(&b, ""), own(&b, "")];
    b.later(MINUTES);
    assert_eq!(reconcile(&b, &json!([network(1, "ciao-ipam", "", ACME, "")])), 0);
    assert!(pools.iter().all(|pool| b.ask(pool, "").is_ok()));
}

#[test]
fn an_empty_list_and_another_engine_s_are_refused_and_change_nothing() {
    let mut b = Bench::new();
    let pool = own(&b, "");
    b.tenant_pool("acme", "10.6.0.0/16");
    b.ask(&pool, "").unwrap();
    b.later(MINUTES);
    let mine = json!([network(1, "ciao-ipam", "", ACME, ""), network(2, "ciao-ipam", "acme", "10.6.0.0/16", "")]);
    assert_eq!(reconcile(&b, &mine), 0);
    let before = b.state();
    let of = |networks: &Value, engine: Option<&str>| Request {
        engine: engine.map(str::to_owned),
        ..request(networks, Duration::ZERO)
    };
    for (strange, why) in [
        (request(&list(0), Duration::ZERO), "none of the 2 recorded pools"),
        (request(&json!([network(1, "ciao-ipam", "", "10.9.0.0/16", "")]), Duration::ZERO), "none of the 2 recorded"),
        (request(&json!([network(1, "default", "", ACME, "")]), Duration::ZERO), "none of the 2 recorded pools"),
        (of(&mine, None), "names no engine"),
        (of(&mine, Some("F")), "is engine F's, but the records are of engine E's"),
    ] {
        let refused = sentence(run(&b.store, strange));
        assert!(refused.contains(why) && refused.contains("--force"), "{refused}");
        assert_eq!(b.state(), before, "{refused}");
    }
    let dry = Request { dry_run: true, ..forced(&list(0), Duration::ZERO) };
    assert_eq!(run(&b.store, dry).unwrap().len(), 2);
    assert_eq!(b.state(), before);
    assert_eq!(run(&b.store, forced(&list(0), Duration::ZERO)).unwrap().len(), 2);
    assert!(b.ask(&pool, "").is_err());
}

#[test]
fn what_a_network_of_ciao_net_is_on_stays_whatever_the_list() {
    let mut b = Bench::new();
    let pool = own(&b, "");
    b.own_network(&pool, "10.5.0.1");
    b.later(MINUTES);
    assert_eq!(run(&b.store, forced(&list(0), Duration::ZERO)).unwrap().len(), 0);
    assert!(b.ask(&pool, "").is_ok());
}

#[test]
fn a_managed_plugin_s_networks_count_by_its_name_with_a_tag() {
    let mut b = Bench::new();
    let pool = own(&b, "");
    b.later(MINUTES);
    assert_eq!(reconcile(&b, &json!([network(1, "ciao-ipam:latest", "", ACME, "")])), 0);
    assert!(b.ask(&pool, "").is_ok());
}
