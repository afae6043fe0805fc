// SPDX-License-Identifier: Apache-2.0
//! Addresses: the choice of the granted one.

use ciao_common::api::ipam::SERIAL;

use crate::bench::{Bench, sentence};

#[test]
fn dynamic_addresses_are_the_lowest_free_ones_with_the_whole_pool_s_mask() {
    let b = Bench::new();
    let (pool, _) = b.pool("10.5.0.0/29", "", &[]).unwrap();
    assert_eq!(b.gateway(&pool, "10.5.0.1").unwrap(), "10.5.0.1/29");
    let given: Vec<_> = (0..5).map(|_| b.ask(&pool, "").unwrap()).collect();
    assert_eq!(given, ["10.5.0.2/29", "10.5.0.3/29", "10.5.0.4/29", "10.5.0.5/29", "10.5.0.6/29"]);
    assert!(sentence(b.ask(&pool, "")).contains("no available addresses on this pool"));
    b.release(&pool, "10.5.0.4");
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.4/29");
}

#[test]
fn small_subnets_are_used_completely_and_ipv6_excludes_the_anycast_address() {
    let b = Bench::new();
    for (subnet, expected) in [
        ("10.0.0.4/31", vec!["10.0.0.4/31", "10.0.0.5/31"]),
        ("10.0.0.7/32", vec!["10.0.0.7/32"]),
        ("fd00::/127", vec!["fd00::/127", "fd00::1/127"]),
        ("fd00::/126", vec!["fd00::1/126", "fd00::2/126", "fd00::3/126"]),
    ] {
        let (pool, _) = b.pool(subnet, "", &[]).unwrap();
        let mut given = Vec::new();
        while let Ok(address) = b.ask(&pool, "") {
            given.push(address);
        }
        assert_eq!(given, expected, "{subnet}");
    }
}

#[test]
fn serial_mode_grants_the_next_address_and_wraps_around() {
    let b = Bench::new();
    let (pool, _) = b.pool("10.5.0.0/29", "", &[(SERIAL, "true")]).unwrap();
    let next = || b.ask(&pool, "").unwrap();
    assert_eq!((next(), next()), ("10.5.0.1/29".into(), "10.5.0.2/29".into()));
    b.release(&pool, "10.5.0.1");
    assert_eq!(
        (next(), next(), next(), next()),
        ("10.5.0.3/29".into(), "10.5.0.4/29".into(), "10.5.0.5/29".into(), "10.5.0.6/29".into())
    );
    assert_eq!(next(), "10.5.0.1/29");
}

#[test]
fn an_explicit_address_is_granted_anywhere_in_the_subnet_once() {
    let b = Bench::new();
    let (pool, _) = b.pool("10.5.0.0/16", "10.5.1.0/24", &[]).unwrap();
    for address in ["10.5.0.9", "10.5.1.7", "10.5.255.254"] {
        assert_eq!(b.ask(&pool, address).unwrap(), format!("{address}/16"));
    }
    let before = b.state();
    for (address, expected) in [("10.5.0.9", "in use"), ("10.6.0.1", "outside of pool"), ("fd00::1", "is IPv6")] {
        let error = sentence(b.ask(&pool, address));
        assert!(error.contains(expected) && error.contains(address), "{error}");
    }
    assert_eq!(b.state(), before);
}

#[test]
fn a_gateway_is_shared_by_the_networks_of_a_pool_and_counted() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.tenant_pool("acme", "10.5.0.0/16");
    assert_eq!(b.gateway(&pool, "10.5.0.1").unwrap(), "10.5.0.1/16");
    assert_eq!(b.gateway(&pool, "10.5.0.1").unwrap(), "10.5.0.1/16");
    assert_eq!(b.gateway(&pool, "").unwrap(), "10.5.0.1/16", "a second gateway is never needed");
    b.release(&pool, "10.5.0.1");
    b.release(&pool, "10.5.0.1");
    assert!(sentence(b.ask(&pool, "10.5.0.1")).contains("in use as a gateway"));
    b.release(&pool, "10.5.0.1");
    assert!(b.ask(&pool, "10.5.0.1").is_ok());
}

#[test]
fn an_ipv6_64_costs_two_rows() {
    let b = Bench::new();
    let (pool, _) = b.pool("fd00:5::/64", "", &[]).unwrap();
    assert_eq!(b.gateway(&pool, "").unwrap(), "fd00:5::1/64");
    assert_eq!(b.ask(&pool, "").unwrap(), "fd00:5::2/64");
    assert_eq!(b.ask(&pool, "fd00:5::ffff").unwrap(), "fd00:5::ffff/64");
    b.state();
}
