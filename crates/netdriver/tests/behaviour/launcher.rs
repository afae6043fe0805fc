// SPDX-License-Identifier: Apache-2.0
//! The launcher's side: VNICs made, shown, and deleted over the control socket.

use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::FakeLink;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{id, network, network_in, vnic};

pub(super) const SUBNET: &str = "192.168.111.0/24";
pub(super) const MAC: &str = "ca:fe:00:00:10:02";

pub(super) fn i1() -> Value {
    vnic("acme", "i1", SUBNET, "192.168.111.2", MAC)
}

/// Refused with a status of the client's, and nothing changed.
pub(super) fn refused(b: &Bench, request: &Value, status: u16) -> String {
    let (rows, state) = (b.rows(), b.kernel.state());
    let (is, reply) = b.make_vnic(request);
    assert_eq!(is, status, "{reply}");
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
    reply["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_vnic_is_a_pair_of_links_and_its_reply_has_the_network_to_create() {
    let b = Bench::new();
    let (status, made) = b.make_vnic(&i1());
    assert_eq!(status, 201);
    let (namespace, bridge) = ("ciao-acme".to_owned(), made["bridge"].as_str().unwrap().parse().unwrap());
    let state = b.kernel.state();
    let container = (Namespace::Host, made["container_link"].as_str().unwrap().parse().unwrap());
    assert_eq!(state.links[&container], FakeLink::ContainerEnd(MAC.parse().unwrap()));
    assert!(state.links.contains_key(&(Namespace::Named(namespace), bridge)));
    assert_eq!((&made["gateway"], &made["network"]["create"]), (&json!("192.168.111.1"), &json!(true)));
    let docker = &made["network"]["docker"];
    let config = json!([{ "Subnet": SUBNET, "Gateway": "192.168.111.1" }]);
    assert_eq!((&docker["IPAM"]["Config"], &docker["IPAM"]["Options"]), (&config, &json!({ "tenant": "acme" })));
    assert_eq!(docker["Options"], json!({ "tenant": "acme", "bridge": made["bridge"] }));
    b.assert_consistent();
}

#[test]
fn the_same_request_again_is_the_same_vnic_and_no_network_is_needed_once_it_is_there() {
    let b = Bench::new();
    let made = b.vnic(&i1());
    let (rows, state) = (b.rows(), b.kernel.state());
    let (status, again) = b.make_vnic(&i1());
    assert_eq!((status, &again), (200, &made));
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
    let options = [("tenant", "acme"), ("bridge", made["bridge"].as_str().unwrap())];
    b.pool(SUBNET, "acme");
    b.ok("CreateNetwork", &network_in("local", "n1", &[SUBNET], &options));
    let again = b.vnic(&i1());
    assert_eq!((&again["network"]["create"], &again["network"]["id"]), (&json!(false), &json!(id("n1"))));
    let second = b.vnic(&vnic("acme", "i2", SUBNET, "192.168.111.3", "02:00:00:00:00:03"));
    assert_eq!((&second["bridge"], &second["network"]["create"]), (&made["bridge"], &json!(false)));
    b.assert_consistent();
}

#[test]
fn missing_links_of_a_vnic_are_created_by_the_same_request() {
    let b = Bench::new();
    let made = b.vnic(&i1());
    b.reboot();
    assert_eq!(b.vnic(&i1())["id"], made["id"]);
    b.assert_consistent();
}

#[test]
fn a_dual_stack_vnic_has_both_addresses_for_itself_alone() {
    let b = Bench::new();
    let mut request = i1();
    request["subnet6"] = json!("fd00:1::/64");
    request["address6"] = json!("fd00:1::2");
    let made = b.vnic(&request);
    assert_eq!(b.vnic(&request), made);
    assert_eq!(made["network"]["docker"]["EnableIPv6"], true);
    assert_eq!(
        made["network"]["docker"]["IPAM"]["Config"][1],
        json!({ "Subnet": "fd00:1::/64", "Gateway": "fd00:1::1" })
    );
    let mut other = vnic("acme", "i2", SUBNET, "192.168.111.3", "02:00:00:00:00:03");
    other["subnet6"] = json!("fd00:1::/64");
    other["address6"] = json!("fd00:1::2");
    assert!(refused(&b, &other, 409).contains("fd00:1::2"));
    let options = [("tenant", "acme"), ("bridge", made["bridge"].as_str().unwrap())];
    b.ok("CreateNetwork", &network("n1", &[SUBNET, "fd00:1::/64"], &options));
    b.run("e1", "n1", "192.168.111.2/24 fd00:1::2/64", "");
    b.assert_consistent();
}

#[test]
fn a_vnic_on_an_existing_bridge_of_the_host_leaves_it_there() {
    let b = Bench::new();
    let key = (Namespace::Host, "lan0".parse().unwrap());
    b.kernel.change(|state| drop(state.links.insert(key, FakeLink::Bridge([].into()))));
    let before = b.kernel.state();
    let mut request = i1();
    request["host_bridge"] = json!("lan0");
    let made = b.vnic(&request);
    assert_eq!(made["namespace"], Value::Null);
    b.assert_consistent();
    b.delete_vnic(&made, false);
    assert_eq!(b.kernel.state(), before);
}

#[test]
fn vnics_are_shown_one_by_one_and_listed_by_tenant_and_instance() {
    let b = Bench::new();
    let made = b.vnic(&i1());
    b.vnic(&vnic("blue", "i2", SUBNET, "192.168.111.2", MAC));
    let list = |query: &str| b.launcher("GET", &format!("/v1/vnics{query}"), b"").1.as_array().unwrap().len();
    let counts = ["", "?tenant=acme", "?instance=i2", "?tenant=acme&instance=i2"].map(list);
    assert_eq!(counts, [2, 1, 1, 0]);
    let target = format!("/v1/vnics/{}", made["id"].as_str().unwrap());
    assert_eq!(b.launcher("GET", &target, b""), (200, made));
    assert_eq!(b.launcher("GET", "/v1/vnics/0123456789", b"").0, 404);
}

#[test]
fn a_deleted_vnic_leaves_nothing_and_again_is_a_success() {
    let b = Bench::new();
    let (rows, state) = (b.rows(), b.kernel.state());
    let made = b.vnic(&i1());
    assert_eq!(b.delete_vnic(&made, false), (200, json!({ "deleted": true, "network": null })));
    assert_eq!(b.delete_vnic(&made, false), (200, json!({ "deleted": false, "network": null })));
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
}

#[test]
fn deleting_the_last_vnic_of_a_subnet_reports_its_network_as_removable() {
    let b = Bench::new();
    let one = b.vnic(&i1());
    let two = b.vnic(&vnic("acme", "i2", SUBNET, "192.168.111.3", "02:00:00:00:00:03"));
    let options = [("tenant", "acme"), ("bridge", one["bridge"].as_str().unwrap())];
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &options));
    assert_eq!(b.delete_vnic(&one, false).1["network"], json!({ "id": id("n1"), "remove": false }));
    assert_eq!(b.delete_vnic(&two, false).1["network"], json!({ "id": id("n1"), "remove": true }));
    b.assert_consistent();
}

#[test]
fn a_vnic_that_a_running_container_has_is_deleted_by_force_only() {
    let b = Bench::new();
    let made = b.vnic(&i1());
    let options = [("tenant", "acme"), ("bridge", made["bridge"].as_str().unwrap())];
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &options));
    b.run("e1", "n1", "192.168.111.2/24", MAC);
    let (rows, state) = (b.rows(), b.kernel.state());
    let (status, reply) = b.delete_vnic(&made, false);
    assert!(status == 409 && reply["error"].as_str().unwrap().contains("in use by a running container"), "{reply}");
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
    assert_eq!(b.delete_vnic(&made, true).0, 200);
    b.assert_consistent();
    b.stop("n1", "e1");
    b.assert_consistent();
}

#[test]
fn a_reservation_survives_stop_and_is_released_with_its_vnic() {
    let b = Bench::new();
    let made = b.vnic(&i1());
    let pool = b.pool(SUBNET, "acme");
    let options = [("tenant", "acme"), ("bridge", made["bridge"].as_str().unwrap())];
    b.ok("CreateNetwork", &network_in("local", "n1", &[SUBNET], &options));
    b.lease(&pool, "192.168.111.2");
    b.run("e1", "n1", "192.168.111.2/24", MAC);
    assert!(b.leases().contains(&"bound 192.168.111.2".to_owned()));
    b.stop("n1", "e1");
    b.ipam("ReleaseAddress", &json!({ "PoolID": pool, "Address": "192.168.111.2" }));
    assert!(b.leases().contains(&"reserved 192.168.111.2".to_owned()), "{:?}", b.leases());
    assert_eq!(b.lease(&pool, ""), "192.168.111.3/24");
    b.delete_vnic(&made, false);
    assert!(!b.rows().contains("reserved 192.168.111.2"));
    assert_eq!(b.lease(&pool, "192.168.111.2"), "192.168.111.2/24");
}

#[test]
fn a_vnic_in_use_gets_another_rate_and_other_addresses() {
    let b = Bench::new();
    let made = b.vnic(&i1());
    let path = format!("/v1/vnics/{}", made["id"].as_str().unwrap());
    let set = |body: Value| b.launcher("PATCH", &path, body.to_string().as_bytes());
    let (status, changed) = set(json!({ "rate": "100mbit", "allowed_addresses": ["192.168.111.100"] }));
    assert_eq!((status, &changed["rate"]), (200, &json!("100mbit")), "{changed}");
    assert_eq!(changed["allowed_addresses"], json!(["192.168.111.100"]));
    b.assert_consistent();

    // What is not named stays; null is none.
    assert_eq!(set(json!({ "allowed_addresses": [] })).1["rate"], "100mbit");
    assert_eq!(set(json!({ "rate": null })).1["rate"], Value::Null);
    b.assert_consistent();

    for (body, status) in [
        (json!({ "rate": "fast" }), 400),
        (json!({ "mac": "02:00:00:00:00:03" }), 400),
        (json!({ "allowed_addresses": ["224.0.0.1"] }), 422),
    ] {
        let rows = b.rows();
        let (is, reply) = set(body);
        assert_eq!((is, b.rows() == rows), (status, true), "{reply}");
    }
    assert_eq!(b.launcher("PATCH", "/v1/vnics/0000000000", b"{}").0, 404);
}
