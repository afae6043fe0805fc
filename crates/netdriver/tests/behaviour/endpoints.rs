// SPDX-License-Identifier: Apache-2.0
//! `CreateEndpoint`, `DeleteEndpoint`, `EndpointOperInfo`: which VNIC a container gets.

use ciao_common::store::Owner;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{endpoint, names_of, network, vnic};

const SUBNET: &str = "192.168.111.0/24";
const MAC: &str = "ca:fe:00:00:10:02";

/// Tenant acme's network n1, its bridge with the launcher's name.
fn acme(options: &[(&str, &str)]) -> Bench {
    let b = Bench::new();
    let options: Vec<_> = [("tenant", "acme"), ("bridge", "br1")].iter().chain(options).copied().collect();
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &options));
    b
}

fn instance_i1() -> Value {
    vnic("acme", "i1", SUBNET, "192.168.111.2", MAC)
}

fn refused(b: &Bench, body: &Value) -> String {
    let (rows, state) = (b.rows(), b.kernel.state());
    let error = b.call("CreateEndpoint", body).unwrap_err();
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
    error
}

#[test]
fn an_endpoint_gets_the_launcher_s_vnic_of_its_address() {
    let b = acme(&[]);
    let made = b.vnic(&instance_i1());
    assert_eq!(b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", MAC)), json!({}));
    let info = b.ok("EndpointOperInfo", &names_of("n1", "e1"));
    let expected = json!({
        "bridge": "br1", "host_link": made["host_link"], "instance": "i1", "mac": MAC, "namespace": "ciao-acme",
        "tenant": "acme", "vnic": made["id"],
    });
    assert_eq!(info["Value"], expected);
    assert_eq!(b.vnic(&instance_i1())["endpoint"], names_of("n1", "e1")["EndpointID"]);
}

#[test]
fn the_vnic_s_mac_address_is_answered_when_none_was_given() {
    let b = acme(&[]);
    b.vnic(&instance_i1());
    let reply = b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
    assert_eq!(reply, json!({ "Interface": { "Address": "", "AddressIPv6": "", "MacAddress": MAC } }));
}

#[test]
fn an_endpoint_finds_its_vnic_by_mac_address_instance_or_vnic_option_too() {
    let b = acme(&[]);
    let made = b.vnic(&instance_i1());
    let by_mac = endpoint("e1", "n1", "", MAC);
    let (mut by_instance, mut by_vnic) = (endpoint("e2", "n1", "", ""), endpoint("e3", "n1", "", ""));
    by_instance["Options"]["instance"] = json!("i1");
    by_vnic["Options"]["vnic"] = made["id"].clone();
    for (name, body) in [("e1", by_mac), ("e2", by_instance), ("e3", by_vnic)] {
        b.ok("CreateEndpoint", &body);
        b.join("n1", name);
        assert_eq!(b.ok("EndpointOperInfo", &names_of("n1", name))["Value"]["vnic"], made["id"]);
        b.stop("n1", name);
    }
}

#[test]
fn a_vnic_of_another_bridge_address_or_mac_address_is_refused_with_both_values() {
    let b = acme(&[]);
    b.ok("CreateNetwork", &network("n2", &["10.9.0.0/24"], &[("tenant", "acme"), ("bridge", "br2")]));
    let made = b.vnic(&instance_i1());
    let error = refused(&b, &endpoint("e1", "n1", "192.168.111.2/24", "02:00:00:00:00:99"));
    assert!(error.contains("02:00:00:00:00:99") && error.contains(MAC), "{error}");
    let error = refused(&b, &endpoint("e1", "n1", "192.168.111.9/24", MAC));
    assert!(error.contains("192.168.111.9") && error.contains("192.168.111.2"), "{error}");
    let mut body = endpoint("e1", "n2", "10.9.0.2/24", "");
    body["Options"]["vnic"] = made["id"].clone();
    let error = refused(&b, &body);
    assert!(error.contains("br1") && error.contains("br2"), "{error}");
}

#[test]
fn a_vnic_on_a_host_bridge_belongs_to_its_tenant_alone() {
    let b = Bench::new();
    let lan = ("lan0".parse().unwrap(), ciao_netdriver::kernel::fake::FakeLink::Bridge([].into()));
    b.kernel.change(|state| drop(state.links.insert((ciao_netdriver::kernel::Namespace::Host, lan.0), lan.1)));
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("tenant", "blue"), ("host_bridge", "lan0")]));
    let mut request = vnic("red", "i1", SUBNET, "192.168.111.2", MAC);
    request["host_bridge"] = json!("lan0");
    let red = b.vnic(&request);
    let by_mac = endpoint("e1", "n1", "", MAC);
    let (mut by_instance, mut by_vnic) = (endpoint("e2", "n1", "", ""), endpoint("e3", "n1", "", ""));
    by_instance["Options"]["instance"] = json!("i1");
    by_vnic["Options"]["vnic"] = red["id"].clone();
    for body in [by_mac, by_instance, by_vnic] {
        let name = body["EndpointID"].as_str().unwrap();
        if b.call("CreateEndpoint", &body).is_ok() {
            let info = b.ok("EndpointOperInfo", &body);
            assert_ne!(info["Value"]["vnic"], red["id"], "{name} of tenant blue has red's VNIC");
        }
    }
}

#[test]
fn without_a_launcher_s_vnic_docker_s_own_is_created_and_deleted_with_the_endpoint() {
    let b = acme(&[]);
    let (rows, state) = (b.rows(), b.kernel.state());
    b.run("e1", "n1", "192.168.111.2/24", "");
    let vnics = b.store.read(|tx| tx.vnics(None)).unwrap();
    assert_eq!(vnics[0].owner, Owner::Docker);
    b.assert_consistent();
    b.stop("n1", "e1");
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
}

#[test]
fn an_automatic_mac_address_is_the_same_after_every_restart_and_differs_by_tenant() {
    let b = acme(&[]);
    b.ok("CreateNetwork", &network("n2", &[SUBNET], &[("tenant", "blue")]));
    let run = |name: &str, on: &str| b.run(name, on, "192.168.111.2/24", "")["Interface"]["MacAddress"].clone();
    let first = run("e1", "n1");
    let blue = run("e9", "n2");
    b.stop("n1", "e1");
    assert_eq!(run("e2", "n1"), first);
    assert_ne!(blue, first);
}

#[test]
fn with_vnics_required_a_missing_vnic_is_an_error_with_the_command_to_create_it() {
    let b = acme(&[("vnics", "required")]);
    let error = refused(&b, &endpoint("e1", "n1", "192.168.111.2/24", ""));
    assert_eq!(
        error,
        "no VNIC has address 192.168.111.2 on bridge br1, and the network has vnics=required: create one first with \
         \"ciao-net vnic create --tenant acme --instance I --subnet 192.168.111.0/24 --ip 192.168.111.2 --mac M\""
    );
    b.vnic(&instance_i1());
    b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
}

#[test]
fn the_same_endpoint_again_is_a_success_and_with_other_content_an_error() {
    let b = acme(&[]);
    let body = endpoint("e1", "n1", "192.168.111.2/24", "");
    let reply = b.ok("CreateEndpoint", &body);
    let (rows, state) = (b.rows(), b.kernel.state());
    assert_eq!(b.ok("CreateEndpoint", &body), reply);
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
    for other in ["192.168.111.3/24", ""] {
        let error = refused(&b, &endpoint("e1", "n1", other, ""));
        assert_eq!(error, "endpoint e10000000000 exists with different parameters");
    }
    refused(&b, &endpoint("e1", "n1", "192.168.111.2/24", MAC));
}

#[test]
fn a_launcher_s_vnic_outlives_its_endpoints_with_its_mac_address() {
    let b = acme(&[]);
    let made = b.vnic(&instance_i1());
    for name in ["e1", "e2", "e3"] {
        b.run(name, "n1", "192.168.111.2/24", MAC);
        b.stop("n1", name);
        let seen = b.vnic(&instance_i1());
        assert_eq!((&seen["id"], &seen["endpoint"]), (&made["id"], &Value::Null));
        b.assert_consistent();
    }
}

#[test]
fn a_vnic_that_a_running_container_has_is_refused_with_its_endpoint() {
    let b = acme(&[]);
    b.vnic(&instance_i1());
    b.run("e1", "n1", "192.168.111.2/24", MAC);
    for body in [endpoint("e2", "n1", "192.168.111.2/24", MAC), endpoint("e2", "n1", "", MAC)] {
        let error = refused(&b, &body);
        assert!(error.contains("in use by endpoint e10000000000 of a running container"), "{error}");
    }
    b.run("e3", "n1", "192.168.111.3/24", "");
    let error = refused(&b, &endpoint("e4", "n1", "192.168.111.3/24", ""));
    assert!(error.contains("endpoint e30000000000"), "{error}");
}

#[test]
fn a_mac_address_that_another_vnic_of_the_bridge_has_is_refused() {
    let b = acme(&[]);
    b.run("e1", "n1", "192.168.111.3/24", "02:00:00:00:00:33");
    let error = refused(&b, &endpoint("e2", "n1", "192.168.111.4/24", "02:00:00:00:00:33"));
    assert!(error.contains("e10000000000"), "{error}");
}

#[test]
fn endpoints_of_a_killed_dockerd_are_superseded_by_new_ones_of_the_same_address() {
    let b = acme(&[]);
    let made = b.vnic(&instance_i1());
    b.run("e1", "n1", "192.168.111.2/24", MAC);
    let mac = b.run("e2", "n1", "192.168.111.3/24", "")["Interface"]["MacAddress"].clone();
    b.kill_containers();
    b.run("e3", "n1", "192.168.111.2/24", MAC);
    assert_eq!(b.run("e4", "n1", "192.168.111.3/24", "")["Interface"]["MacAddress"], mac);
    b.assert_consistent();
    assert_eq!(b.ok("EndpointOperInfo", &names_of("n1", "e3"))["Value"]["vnic"], made["id"]);
    assert!(b.call("EndpointOperInfo", &names_of("n1", "e1")).is_err());
    b.stop("n1", "e1");
    b.assert_consistent();
    assert_eq!(b.store.read(|tx| tx.endpoints()).unwrap().len(), 2, "a late DeleteEndpoint of the old one harms none");
}

#[test]
fn an_endpoint_that_never_joined_is_superseded() {
    let b = acme(&[]);
    b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
    b.run("e2", "n1", "192.168.111.2/24", "");
    b.assert_consistent();
    assert_eq!(b.store.read(|tx| tx.endpoints()).unwrap().len(), 1);
}

#[test]
fn every_stale_endpoint_in_the_way_is_superseded() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &["10.1.0.0/24", "fd00:1::/64"], &[]));
    b.run("e1", "n1", "10.1.0.2/24 fd00:1::2/64", "02:00:00:00:00:02");
    b.run("e2", "n1", "10.1.0.3/24 fd00:1::3/64", "02:00:00:00:00:03");
    b.run("e3", "n1", "10.1.0.4/24 fd00:1::4/64", "02:00:00:00:00:04");
    b.kill_containers();
    b.run("e9", "n1", "10.1.0.2/24 fd00:1::3/64", "02:00:00:00:00:04");
    b.assert_consistent();
}

#[test]
fn deleting_what_is_unknown_is_a_success_and_asking_for_it_an_error() {
    let b = acme(&[]);
    assert_eq!(b.ok("DeleteEndpoint", &names_of("n1", "e1")), json!({}));
    assert_eq!(b.ok("Leave", &names_of("n9", "e9")), json!({}));
    let error = b.call("EndpointOperInfo", &names_of("n1", "e1")).unwrap_err();
    assert!(error.starts_with("endpoint e10000000000 is unknown"), "{error}");
}
