// SPDX-License-Identifier: Apache-2.0
//! What a launcher is refused: addresses, subnets and bridges that contradict what exists.

use serde_json::json;

use crate::bench::Bench;
use crate::launcher::{MAC, SUBNET, i1, refused};
use crate::requests::{network, network_in, vnic};

#[test]
fn another_instance_s_address_or_mac_address_is_refused_with_its_name() {
    let b = Bench::new();
    b.vnic(&i1());
    let error = refused(&b, &vnic("acme", "i2", SUBNET, "192.168.111.2", "02:00:00:00:00:03"), 409);
    assert_eq!(error, "address 192.168.111.2 is instance i1's: give another one");
    let error = refused(&b, &vnic("acme", "i2", SUBNET, "192.168.111.3", MAC), 409);
    assert!(error.starts_with(&format!("MAC address {MAC} is instance i1's on bridge br-")), "{error}");
    b.vnic(&vnic("blue", "i1", SUBNET, "192.168.111.2", MAC));
    b.assert_consistent();
}

#[test]
fn a_different_request_for_an_existing_instance_is_a_conflict() {
    let b = Bench::new();
    b.vnic(&i1());
    for (key, value) in [
        ("mac", json!("02:00:00:00:00:99")),
        ("mtu", json!(1400)),
        ("gateway", json!("192.168.111.254")),
        ("bridge", json!("br9")),
        ("allowed_addresses", json!(["192.168.111.100"])),
    ] {
        let mut other = i1();
        other[key] = value;
        let error = refused(&b, &other, 409);
        assert!(error.contains("delete it first"), "{key}: {error}");
    }
}

#[test]
fn further_addresses_and_mac_addresses_that_would_break_the_tenant_are_refused() {
    let b = Bench::new();
    b.vnic(&i1());
    let with = |address: &str| {
        let mut request = vnic("acme", "i2", SUBNET, "192.168.111.3", "02:00:00:00:00:03");
        request["allowed_addresses"] = json!([address]);
        request
    };
    for address in ["0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "127.0.0.1", "::1"] {
        let error = refused(&b, &with(address), 422);
        assert!(error.contains(&format!("{address} cannot be a container's address")), "{error}");
    }
    for (address, whose) in [
        ("192.168.111.1", "the gateway's"),
        ("192.168.111.0", "the network's or broadcast address"),
        ("192.168.111.255", "the network's or broadcast address"),
        ("192.168.111.2", "'s own"),
    ] {
        let error = refused(&b, &with(address), 409);
        assert!(error.contains(address) && error.contains(whose), "{error}");
    }
    let made = b.vnic(&with("192.168.111.100"));
    let path = format!("/v1/vnics/{}", made["id"].as_str().unwrap());
    let rows = b.rows();
    for address in ["192.168.111.1", "192.168.111.0", "192.168.111.2"] {
        let change = json!({ "rate": "10mbit", "allowed_addresses": [address] });
        let (status, reply) = b.launcher("PATCH", &path, change.to_string().as_bytes());
        assert!(status == 409 && reply["error"].as_str().unwrap().contains(address), "{status} {reply}");
    }
    assert_eq!(b.rows(), rows);
    let bridge = b.store.read(|tx| tx.vnics(None)).unwrap().remove(0).bridge;
    let mac = ciao_netdriver::names::bridge_mac("ciao-acme", &bridge).to_string();
    let error = refused(&b, &vnic("acme", "i3", SUBNET, "192.168.111.4", &mac), 409);
    assert!(error.contains(&mac) && error.contains("MAC address of bridge"), "{error}");
    b.assert_consistent();
}

#[test]
fn an_address_of_a_container_whose_network_has_another_ipam_driver_is_refused() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("tenant", "acme"), ("bridge", "br1")]));
    b.run("e1", "n1", "192.168.111.7/24", "");
    let error = refused(&b, &vnic("acme", "i1", SUBNET, "192.168.111.7", MAC), 409);
    assert!(error.starts_with("address 192.168.111.7 is VNIC "), "{error}");
    b.assert_consistent();
}

#[test]
fn an_address_of_the_ipv6_gateway_is_refused() {
    let b = Bench::new();
    let mut request = i1();
    request["subnet6"] = json!("fd00:5::/64");
    request["address6"] = json!("fd00:5::1");
    assert!(refused(&b, &request, 422).contains("address6 fd00:5::1 is the gateway's"));
}

#[test]
fn an_address_that_a_container_or_gateway_holds_is_refused() {
    let b = Bench::new();
    let pool = b.pool(SUBNET, "acme");
    b.ok("CreateNetwork", &network_in("local", "n1", &[SUBNET], &[("tenant", "acme"), ("bridge", "br1")]));
    b.lease(&pool, "192.168.111.7");
    let error = refused(&b, &vnic("acme", "i1", SUBNET, "192.168.111.7", MAC), 409);
    assert!(error.contains("192.168.111.7") && error.contains("a container's"), "{error}");
    let mut request = vnic("acme", "i1", SUBNET, "192.168.111.1", MAC);
    request["gateway"] = json!("192.168.111.254");
    let error = refused(&b, &request, 409);
    assert!(error.contains("has gateway 192.168.111.1, not 192.168.111.254"), "{error}");
    request["gateway"] = json!("192.168.111.1");
    let error = refused(&b, &request, 422);
    assert!(error.contains("the gateway's"), "{error}");
}

#[test]
fn a_subnet_that_overlaps_another_of_the_tenant_is_refused_with_both() {
    let b = Bench::new();
    b.vnic(&i1());
    let error = refused(&b, &vnic("acme", "i2", "192.168.111.0/25", "192.168.111.3", "02:00:00:00:00:03"), 409);
    assert!(error.contains("192.168.111.0/25") && error.contains(SUBNET), "{error}");
    b.vnic(&vnic("other", "i2", "192.168.111.0/25", "192.168.111.3", "02:00:00:00:00:03"));
}

#[test]
fn a_subnet_that_no_container_can_use_is_refused() {
    let b = Bench::new();
    for (subnet, address) in [("127.0.0.0/8", "127.0.0.2"), ("224.0.0.0/24", "224.0.0.2"), ("0.0.0.0/0", "1.2.3.4")] {
        let error = refused(&b, &vnic("acme", "i1", subnet, address, MAC), 422);
        assert!(error.contains(subnet), "{error}");
    }
}

#[test]
fn a_subnet_is_on_one_bridge() {
    let b = Bench::new();
    b.vnic(&i1());
    let mut other = vnic("acme", "i2", SUBNET, "192.168.111.3", "02:00:00:00:00:03");
    other["bridge"] = json!("br9");
    let error = refused(&b, &other, 409);
    assert!(error.contains("is on bridge br-") && error.contains("not on br9"), "{error}");
}
