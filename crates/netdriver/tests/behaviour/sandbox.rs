// SPDX-License-Identifier: Apache-2.0
//! `Join` and `Leave`: the link, its name in the container, gateways, routes.

use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::FakeLink;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{endpoint, names_of, network, vnic};

const SUBNET: &str = "192.168.111.0/24";

fn joined(subnets: &[&str], options: &[(&str, &str)], addresses: &str) -> (Bench, Value) {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", subnets, options));
    b.ok("CreateEndpoint", &endpoint("e1", "n1", addresses, ""));
    let reply = b.join("n1", "e1");
    (b, reply)
}

#[test]
fn join_answers_link_prefix_and_gateways_of_both_families() {
    let (b, reply) = joined(&["10.1.0.0/24", "fd00:1::/64"], &[("dst_prefix", "net")], "10.1.0.2/24 fd00:1::2/64");
    let vnic = b.store.read(|tx| tx.vnics(None)).unwrap().remove(0);
    let expected = json!({
        "InterfaceName": { "SrcName": vnic.container_link, "DstPrefix": "net" },
        "Gateway": "10.1.0.1", "GatewayIPv6": "fd00:1::1", "DisableGatewayService": false,
    });
    assert_eq!(reply, expected);
    assert!(vnic.container_link.as_str().len() <= 15);
}

#[test]
fn an_interface_has_the_name_that_the_user_gave() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[]));
    let named = |endpoint_name: &str, interface: &str| {
        let mut request = endpoint(endpoint_name, "n1", "192.168.111.2/24", "");
        request["Options"]["com.docker.network.endpoint.ifname"] = json!(interface);
        request
    };
    let error = b.call("CreateEndpoint", &named("e1", "eth0")).unwrap_err();
    assert!(error.contains("interface name eth0 is not possible: the engine numbers"), "{error}");
    b.ok("CreateEndpoint", &named("e1", "wan0"));
    let has_name = |reply: &Value| {
        let name = &reply["InterfaceName"];
        assert_eq!((&name["DstPrefix"], &name["DstName"]), (&json!("wan"), &json!("wan0")), "before and since 29.8");
    };
    has_name(&b.ok("Join", &names_of("n1", "e1")));
    has_name(&b.restarted().ok("Join", &names_of("n1", "e1")));
}

#[test]
fn join_answers_static_routes() {
    let (_, reply) = joined(&[SUBNET], &[("routes", "10.0.0.0/8=192.168.111.254,10.9.0.0/16")], "192.168.111.2/24");
    let expected = json!([
        { "Destination": "10.0.0.0/8", "RouteType": 0, "NextHop": "192.168.111.254" },
        { "Destination": "10.9.0.0/16", "RouteType": 1, "NextHop": "" },
    ]);
    assert_eq!(reply["StaticRoutes"], expected);
}

#[test]
fn a_container_never_gets_a_second_interface_unless_docker_s_is_asked_for() {
    for (options, gateway, disabled) in [
        (&[][..], "192.168.111.1", false),
        (&[("cnci", "192.168.111.1")], "192.168.111.1", false),
        (&[("egress", "none")], "", true),
        (&[("egress", "docker")], "", false),
    ] {
        let (_, reply) = joined(&[SUBNET], options, "192.168.111.2/24");
        assert_eq!(reply["Gateway"], gateway, "{options:?}");
        assert_eq!(reply["DisableGatewayService"], disabled, "{options:?}");
    }
    let b = Bench::new();
    let mut internal = network("n1", &[SUBNET], &[]);
    internal["Options"]["com.docker.network.internal"] = json!(true);
    b.ok("CreateNetwork", &internal);
    b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
    let reply = b.join("n1", "e1");
    assert_eq!((&reply["Gateway"], &reply["DisableGatewayService"]), (&json!(""), &json!(true)));
}

#[test]
fn a_network_without_gateway_disables_docker_s_too() {
    let (_, reply) = joined(&[], &[], "");
    assert_eq!(reply["DisableGatewayService"], true);
}

#[test]
fn join_makes_missing_links_again_after_a_reboot() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("tenant", "acme"), ("bridge", "br1")]));
    b.vnic(&vnic("acme", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
    for (name, address) in [("e1", "192.168.111.2/24"), ("e2", "192.168.111.3/24")] {
        b.ok("CreateEndpoint", &endpoint(name, "n1", address, ""));
        b.reboot();
        b.join("n1", name);
    }
    b.reconcile();
    b.join("n1", "e1");
    b.assert_consistent();
}

#[test]
fn join_replaces_a_link_with_a_changed_mac_address() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[]));
    b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", "02:00:00:00:00:02"));
    let before = b.kernel.state();
    b.kernel.change(|state| {
        for link in state.links.values_mut().filter(|link| matches!(link, FakeLink::ContainerEnd(_))) {
            *link = FakeLink::ContainerEnd("02:00:00:00:00:66".parse().unwrap());
        }
    });
    b.ok("Join", &names_of("n1", "e1"));
    assert_eq!(b.kernel.state(), before);
}

#[test]
fn join_refuses_a_link_that_a_container_has_and_the_wrong_network() {
    let (b, _) = joined(&[SUBNET], &[], "192.168.111.2/24");
    let (rows, state) = (b.rows(), b.kernel.state());
    let error = b.call("Join", &names_of("n1", "e1")).unwrap_err();
    assert!(error.contains("is in a running container"), "{error}");
    let error = b.call("Join", &names_of("n2", "e1")).unwrap_err();
    assert!(error.contains("is of network n10000000000, not of n20000000000"), "{error}");
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
}

#[test]
fn leave_touches_no_link() {
    let (b, _) = joined(&[SUBNET], &[], "192.168.111.2/24");
    let (rows, state) = (b.rows(), b.kernel.state());
    b.ok("Leave", &names_of("n1", "e1"));
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
}

#[test]
fn join_on_a_deleted_host_bridge_is_an_error() {
    let b = Bench::new();
    let key = (Namespace::Host, "lan0".parse().unwrap());
    b.kernel.change(|state| drop(state.links.insert(key.clone(), FakeLink::Bridge([].into()))));
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("host_bridge", "lan0")]));
    b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
    b.reboot();
    let error = b.call("Join", &names_of("n1", "e1")).unwrap_err();
    assert!(error.contains("lan0 of this host no longer exists"), "{error}");
    assert!(b.kernel.state().links.is_empty());
    b.kernel.change(|state| drop(state.links.insert(key, FakeLink::Bridge([].into()))));
    b.join("n1", "e1");
    b.assert_consistent();
}
