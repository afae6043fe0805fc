// SPDX-License-Identifier: Apache-2.0
//! Pools: tenants, overlaps, refusals.

use ciao_common::api::ipam::RequestPool;
use ciao_ipam::Config;

use crate::bench::{Bench, sentence};

#[test]
fn the_same_subnet_in_two_tenants_is_two_pools_with_the_same_addresses() {
    let b = Bench::new();
    let (red, blue) = (b.tenant_pool("red", "192.168.111.0/24"), b.tenant_pool("blue", "192.168.111.0/24"));
    assert_ne!(red, blue);
    assert_eq!(b.ask(&red, "192.168.111.2").unwrap(), "192.168.111.2/24");
    assert_eq!(b.ask(&blue, "192.168.111.2").unwrap(), "192.168.111.2/24");
}

#[test]
fn each_pool_without_tenant_has_addresses_of_its_own() {
    let b = Bench::new();
    let (one, _) = b.pool("10.5.0.0/16", "", &[]).unwrap();
    let (two, _) = b.pool("10.5.0.0/16", "", &[]).unwrap();
    assert_ne!(one, two);
    assert_eq!(b.ask(&one, "10.5.0.2").unwrap(), b.ask(&two, "10.5.0.2").unwrap());
}

#[test]
fn the_same_request_in_a_tenant_is_the_same_pool_until_it_is_released_as_often() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    assert_eq!(b.tenant_pool("acme", "10.5.0.0/16"), pool);
    b.release_pool(&pool);
    assert!(b.ask(&pool, "").is_ok());
    b.release_pool(&pool);
    assert!(sentence(b.ask(&pool, "")).contains("is unknown"));
    b.release_pool(&pool);
}

#[test]
fn sub_pools_of_a_tenant_s_subnet_share_one_set_of_addresses() {
    let b = Bench::new();
    let low = b.pool("10.5.0.0/16", "10.5.1.0/24", &[("tenant", "acme")]).unwrap().0;
    let high = b.pool("10.5.0.0/16", "10.5.1.0/25", &[("tenant", "acme")]).unwrap().0;
    assert_ne!(low, high);
    let mut given: Vec<_> = (0..4).map(|n| b.ask(if n % 2 == 0 { &low } else { &high }, "").unwrap()).collect();
    given.dedup();
    assert_eq!(given, ["10.5.1.0/16", "10.5.1.1/16", "10.5.1.2/16", "10.5.1.3/16"]);
    b.release_pool(&low);
    assert_eq!(b.ask(&high, "").unwrap(), "10.5.1.0/16", "what went with its pool is free again");
}

#[test]
fn hosts_with_parts_of_one_subnet_never_grant_an_address_twice() {
    let ranges = ["10.1.0.64/26", "10.1.0.128/26", "10.1.0.192/26"];
    let mut granted = std::collections::BTreeSet::new();
    for range in ranges {
        let b = Bench::new();
        let pool = b.pool("10.1.0.0/24", range, &[("tenant", "red")]).unwrap().0;
        assert_eq!(b.gateway(&pool, "10.1.0.1").unwrap(), "10.1.0.1/24", "the same on each, and in no part");
        while let Ok(address) = b.ask(&pool, "") {
            assert!(granted.insert(address.clone()), "{address} is on two hosts");
        }
    }
    assert_eq!(granted.len(), 3 * 64 - 1, "all but the broadcast address");
}

#[test]
fn a_pool_that_overlaps_another_of_its_tenant_is_refused_with_both_names() {
    let b = Bench::new();
    b.tenant_pool("acme", "10.5.0.0/16");
    let before = b.state();
    for overlapping in ["10.5.3.0/24", "10.0.0.0/8"] {
        let error = sentence(b.pool(overlapping, "", &[("tenant", "acme")]));
        assert!(error.contains(overlapping) && error.contains("10.5.0.0/16"), "{error}");
    }
    assert_eq!(b.state(), before);
}

#[test]
fn default_pools_never_overlap_and_run_out_with_an_error() {
    let config = Config { default_pools: vec!["10.200.0.0/22,24".parse().unwrap()], ..Config::default() };
    let b = Bench::with(config);
    b.tenant_pool("acme", "10.200.1.0/24");
    let any = |tenant: &[(&str, &str)]| b.pool("", "", tenant).map(|(_, pool)| pool);
    assert_eq!(any(&[("tenant", "acme")]).unwrap(), "10.200.0.0/24");
    assert_eq!(any(&[("tenant", "acme")]).unwrap(), "10.200.2.0/24");
    assert_eq!(any(&[("tenant", "acme")]).unwrap(), "10.200.3.0/24");
    assert!(sentence(any(&[("tenant", "acme")])).contains("used up"));
    assert!(sentence(any(&[])).contains("used up"), "who names no tenant may turn out to be acme");
    assert_eq!(any(&[("tenant", "blue")]).unwrap(), "10.200.0.0/24");
}

#[test]
fn a_default_pool_without_tenant_overlaps_no_set_and_no_launcher_s_subnet() {
    let config = Config { default_pools: vec!["10.200.0.0/21,24".parse().unwrap()], ..Config::default() };
    let b = Bench::with(config);
    let any = |tenant: &[(&str, &str)]| b.pool("", "", tenant).map(|(_, pool)| pool);
    b.tenant_pool("acme", "10.200.0.0/23");
    b.tenant_pool("blue", "10.200.1.128/25");
    b.vnic("red", "10.200.3.0/24", "10.200.3.9");
    assert_eq!(any(&[]).unwrap(), "10.200.2.0/24");
    assert_eq!(any(&[]).unwrap(), "10.200.4.0/24");
    assert_eq!(any(&[("tenant", "red")]).unwrap(), "10.200.0.0/24");
    assert_eq!(any(&[("tenant", "red")]).unwrap(), "10.200.1.0/24");
    assert_eq!(any(&[("tenant", "red")]).unwrap(), "10.200.2.0/24", "a tenant is apart from others");
    assert_eq!(any(&[("tenant", "red")]).unwrap(), "10.200.4.0/24", "its launcher's subnet is passed over");
}

#[test]
fn a_released_pool_is_the_lowest_again() {
    let config = Config { default_pools: vec!["10.200.0.0/16,24".parse().unwrap()], ..Config::default() };
    let b = Bench::with(config);
    let any = || b.pool("", "", &[("tenant", "acme")]).unwrap();
    let pools: Vec<_> = (0..5).map(|_| any()).collect();
    b.release_pool(&pools[1].0);
    b.release_pool(&pools[3].0);
    assert_eq!([any().1, any().1, any().1], [pools[1].1.as_str(), pools[3].1.as_str(), "10.200.5.0/24"]);
}

#[test]
fn the_host_s_routes_are_skipped_at_once() {
    let config = Config { default_pools: vec!["10.0.0.0/8,24".parse().unwrap()], ..Config::default() };
    let b = Bench::with(config);
    let route = |routes: &[&str]| {
        let routes: Vec<_> = routes.iter().map(|text| text.parse().unwrap()).collect();
        b.store.write(move |tx| tx.set_host_routes(&routes)).unwrap();
    };
    route(&["10.0.0.0/9", "10.128.0.0/24", "10.128.2.7/32", "fd00::/8"]);
    assert_eq!(b.pool("", "", &[]).unwrap().1, "10.128.1.0/24");
    assert_eq!(b.pool("", "", &[("tenant", "acme")]).unwrap().1, "10.128.1.0/24");
    assert_eq!(b.pool("", "", &[("tenant", "acme")]).unwrap().1, "10.128.3.0/24");
    assert_eq!(b.pool("10.0.0.0/24", "", &[]).unwrap().1, "10.0.0.0/24", "who names a subnet means it");
    route(&["10.0.0.0/8"]);
    // The machine may be busy at one moment.
    let refused = (0..5).map(|_| {
        let since = std::time::Instant::now();
        assert!(sentence(b.pool("", "", &[("tenant", "acme")])).contains("used up"));
        since.elapsed()
    });
    assert!(refused.min().unwrap() < std::time::Duration::from_millis(500));
    route(&[]);
    assert_eq!(b.pool("", "", &[("tenant", "acme")]).unwrap().1, "10.0.0.0/24");
}

/// The shortest of some times that a dynamic pool takes: the machine may be busy meanwhile.
fn cost(b: &Bench) -> std::time::Duration {
    let costs = (0..15).map(|_| {
        let since = std::time::Instant::now();
        b.store.read(|_| Ok(())).unwrap();
        b.pool("", "", &[("tenant", "acme")]).unwrap();
        since.elapsed()
    });
    costs.min().unwrap()
}

#[test]
fn a_dynamic_pool_costs_the_same_beside_many() {
    let config = Config { default_pools: vec!["10.0.0.0/8,28".parse().unwrap()], ..Config::default() };
    let b = Bench::with(config);
    let few = cost(&b);
    b.store
        .write(|tx| {
            let tenant = "acme".parse()?;
            (0..20_000_u32).try_for_each(|n| {
                let subnet = format!("10.{}.{}.{}/28", 1 + (n >> 12), (n >> 4) & 255, (n & 15) << 4).parse()?;
                tx.insert_pool_set(ciao_common::store::Scope::Local, Some(&tenant), subnet).map(drop)
            })
        })
        .unwrap();
    let many = cost(&b);
    assert!(many < few * 4 + std::time::Duration::from_millis(3), "{few:?} beside 15 pools, {many:?} beside 20,000");
}

#[test]
fn a_size_larger_than_all_default_pools_is_refused_with_the_largest() {
    let b = Bench::new();
    let error = sentence(b.pool("0.0.0.0/12", "", &[]));
    assert!(error.contains("no IPv4 default pool is as large as a /12, the largest is a /16"), "{error}");
}

#[test]
fn the_unspecified_subnet_requests_any_pool() {
    let b = Bench::new();
    assert_eq!(b.pool("0.0.0.0/0", "", &[("tenant", "acme")]).unwrap().1, "172.31.0.0/16");
    assert!(b.pool("::/0", "", &[("tenant", "acme")]).unwrap().1.starts_with("fd"));
    assert!(sentence(b.pool("0.0.0.0/0", "10.0.0.0/24", &[])).contains("sub-pool"));
}

#[test]
fn without_configuration_the_default_pools_are_the_engine_s_and_a_ula() {
    let b = Bench::new();
    let pools: Vec<_> = (0..16).map(|_| b.pool("", "", &[]).unwrap().1).collect();
    assert_eq!(
        (pools[0].as_str(), pools[14].as_str(), pools[15].as_str()),
        ("172.31.0.0/16", "172.17.0.0/16", "192.168.0.0/20"),
        "from the other end than the engine, whose docker_gwbridge takes the first one left"
    );
    let v6 = || b.request(RequestPool { address_space: "local".into(), v6: true, ..RequestPool::default() }).unwrap().1;
    let (one, two) = (v6(), v6());
    assert!(one.starts_with("fd") && one.ends_with("/64") && one != two, "{one} {two}");
}

#[test]
fn any_pool_of_a_size_is_a_free_one_of_that_size() {
    let b = Bench::new();
    let (_, one) = b.pool("0.0.0.0/24", "", &[("tenant", "acme")]).unwrap();
    let (_, two) = b.pool("0.0.0.0/24", "", &[("tenant", "acme")]).unwrap();
    assert_eq!((one.as_str(), two.as_str()), ("172.31.0.0/24", "172.31.1.0/24"));
}

#[test]
fn host_bits_of_a_pool_are_masked() {
    let b = Bench::new();
    assert_eq!(b.pool("10.5.3.7/16", "", &[]).unwrap().1, "10.5.0.0/16");
}

#[test]
fn an_invalid_pool_is_refused_and_changes_nothing() {
    let b = Bench::new();
    let before = b.state();
    let cases = [
        (b.pool("10.5.0.0/16", "10.6.0.0/24", &[]), "not inside"),
        (b.pool("10.5.0.0/16", "10.0.0.0/8", &[]), "not inside"),
        (b.pool("10.5.0.0/16", "fd00::/64", &[]), "not inside"),
        (b.pool("", "10.5.1.0/24", &[]), "needs a pool"),
        (b.pool("10.5.0.0/16", "", &[("tenat", "x")]), "unknown option"),
        (b.pool("10.5.0.0/16", "", &[("tenant", "../x")]), "tenant"),
        (b.pool("10.5.0.0/16", "", &[("tenant", "")]), "--ipam-opt tenant= is empty"),
        (
            b.request(RequestPool { address_space: "local.xyz".into(), ..RequestPool::default() }),
            "unknown address space",
        ),
        (b.request(RequestPool { address_space: "mars".into(), ..RequestPool::default() }), "unknown address space"),
        (b.request(RequestPool { pool: "10.0.0.0/8".parse().ok(), v6: true, ..RequestPool::default() }), "IPv6 pool"),
        (b.request(RequestPool { pool: "fd00::/64".parse().ok(), ..RequestPool::default() }), "IPv4 pool"),
    ];
    for (result, expected) in cases {
        let error = sentence(result);
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
    }
    assert_eq!(b.state(), before);
}

#[test]
fn the_local_and_the_global_space_are_isolated() {
    let b = Bench::new();
    let request = |space: &str| RequestPool {
        address_space: space.into(),
        pool: "10.77.0.0/24".parse().ok(),
        options: [("tenant", "acme")].into(),
        ..RequestPool::default()
    };
    let (local, global) = (b.request(request("local")).unwrap().0, b.request(request("global")).unwrap().0);
    assert_ne!(local, global);
    assert_eq!(b.ask(&local, "10.77.0.9").unwrap(), b.ask(&global, "10.77.0.9").unwrap());
}
