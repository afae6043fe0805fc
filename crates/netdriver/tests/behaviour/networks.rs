// SPDX-License-Identifier: Apache-2.0
//! `CreateNetwork`, `DeleteNetwork`, capabilities, and the pairing with ciao-ipam's pools.

use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::FakeLink;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{endpoint, id, names_of, network, network_in, vnic};

pub(super) const SUBNET: &str = "192.168.111.0/24";

fn links_in(b: &Bench, namespace: &str) -> Vec<String> {
    let inside = Namespace::Named(namespace.to_owned());
    let state = b.kernel.state();
    state.links.keys().filter(|(ns, _)| *ns == inside).map(|(_, link)| link.to_string()).collect()
}

fn delete(b: &Bench, name: &str) {
    b.ok("DeleteNetwork", &json!({ "NetworkID": id(name) }));
}

/// As long as nobody else changes rules of the host, they and its firewall are known.
#[test]
fn a_tenant_s_first_network_costs_no_look_at_the_host_s_firewall() {
    let b = Bench::new();
    let make = |name: &str| drop(b.ok("CreateNetwork", &network(name, &["10.1.0.0/24"], &[("tenant", name)])));
    ["t1", "t2"].into_iter().for_each(make);
    let looks = b.kernel.firewall_looks();
    ["t3", "t4", "t5"].into_iter().for_each(make);
    assert_eq!(b.kernel.firewall_looks(), looks);
    b.kernel.change(|_| ());
    make("t6");
    assert!(b.kernel.firewall_looks() > looks, "something else may have changed it");
    b.assert_consistent();
}

#[test]
fn the_capabilities_are_local_scope_and_gateway_checks() {
    let (status, reply) = Bench::new().raw("GetCapabilities", b"");
    let expected = json!({ "Scope": "local", "ConnectivityScope": "local", "GwAllocChecker": true });
    assert_eq!((status, reply), (200, expected));
}

#[test]
fn a_network_is_recorded_and_has_a_namespace_a_bridge_and_its_gateway() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("tenant", "acme"), ("bridge", "br1")]));
    assert_eq!(links_in(&b, "ciao-acme"), ["br1", "up0"]);
    let row = &b.store.read(|tx| tx.view("network", None)).unwrap()[0];
    assert_eq!([&row["tenant"], &row["egress"]], ["acme", "nat"]);
    assert_eq!([&row["subnets"], &row["gateways"]], [SUBNET, "192.168.111.1"]);
    b.assert_consistent();
}

#[test]
fn the_same_network_again_is_a_success_and_the_same_id_with_other_content_an_error() {
    let b = Bench::new();
    let body = network("n1", &[SUBNET], &[("tenant", "acme")]);
    b.ok("CreateNetwork", &body);
    let (rows, state) = (b.rows(), b.kernel.state());
    b.ok("CreateNetwork", &body);
    let error = b.call("CreateNetwork", &network("n1", &[SUBNET], &[("tenant", "other")])).unwrap_err();
    assert_eq!(error, "network n10000000000 exists with different options or subnets");
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
}

#[test]
fn networks_without_tenant_have_a_namespace_each_whatever_their_subnet() {
    let b = Bench::new();
    for name in ["n1", "n2"] {
        b.ok("CreateNetwork", &network(name, &[SUBNET], &[("bridge", "br0")]));
    }
    assert_eq!(links_in(&b, "ciao.n10000000000"), links_in(&b, "ciao.n20000000000"));
    b.assert_consistent();
}

#[test]
fn the_same_subnet_bridge_and_addresses_for_two_tenants_are_two_networks() {
    let b = Bench::new();
    for tenant in ["red", "blue"] {
        b.ok("CreateNetwork", &network(tenant, &[SUBNET], &[("tenant", tenant), ("bridge", "br0")]));
        b.run(&format!("e-{tenant}"), tenant, "192.168.111.2/24", "");
    }
    b.assert_consistent();
}

#[test]
fn overlapping_subnets_of_one_tenant_are_refused_unless_subnet_and_bridge_are_the_same() {
    let b = Bench::new();
    let acme = |bridge| [("tenant", "acme"), ("bridge", bridge)];
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &acme("br1")));
    b.ok("CreateNetwork", &network("n2", &[SUBNET], &acme("br1")));
    let (rows, state) = (b.rows(), b.kernel.state());
    for (subnet, bridge) in [(SUBNET, "br2"), ("192.168.111.128/25", "br1"), ("192.168.0.0/16", "br2")] {
        let error = b.call("CreateNetwork", &network("n3", &[subnet], &acme(bridge))).unwrap_err();
        assert!(error.contains(&format!("subnet {subnet} overlaps subnet {SUBNET}")), "{error}");
    }
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
}

#[test]
fn a_network_that_names_a_launcher_s_bridge_is_of_that_tenant() {
    let b = Bench::new();
    let mut request = vnic("acme", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02");
    request["bridge"] = json!("br7");
    b.vnic(&request);
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("bridge", "br7")]));
    b.ok("CreateNetwork", &network("n2", &["10.0.0.0/24"], &[("bridge", "br7")]));
    let networks = b.store.read(|tx| tx.networks()).unwrap();
    let tenants: Vec<_> = networks.iter().map(|n| n.tenant.as_ref().map(|t| t.as_str())).collect();
    assert_eq!(tenants, [Some("acme"), None], "another subnet is another network's");
    request["tenant"] = json!("other");
    b.vnic(&request);
    let error = b.call("CreateNetwork", &network("n3", &[SUBNET], &[("bridge", "br7")])).unwrap_err();
    assert!(error.contains("several tenants (acme, other)") && error.contains("-o tenant=T"), "{error}");
}

#[test]
fn no_subnet_no_gateway_two_subnets_and_dual_stack_are_all_networks() {
    let b = Bench::new();
    let dual = ["10.1.0.0/24", "fd00:1::/64"];
    for (name, subnets) in
        [("n1", &[][..]), ("n2", &["fd00::/64"]), ("n3", &["10.2.0.0/24", "10.3.0.0/24"]), ("n4", &dual)]
    {
        b.ok("CreateNetwork", &network(name, subnets, &[]));
    }
    let mut body = network("n5", &[SUBNET], &[]);
    body["IPv4Data"][0]["Gateway"] = json!("");
    body["IPv4Data"][0]["AuxAddresses"] = Value::Null;
    body["IPv6Data"] = Value::Null;
    b.ok("CreateNetwork", &body);
    for (name, addresses) in
        [("n1", ""), ("n2", "fd00::2/64"), ("n3", "10.3.0.2/24"), ("n4", "10.1.0.2/24 fd00:1::2/64")]
    {
        b.run(&format!("e-{name}"), name, addresses, "");
    }
    b.assert_consistent();
}

#[test]
fn an_internal_network_and_one_of_a_concentrator_have_no_gateway_of_ours() {
    let b = Bench::new();
    let mut internal = network("n1", &[SUBNET], &[("bridge", "br1")]);
    internal["Options"]["com.docker.network.internal"] = json!(true);
    b.ok("CreateNetwork", &internal);
    b.ok("CreateNetwork", &network("n2", &[SUBNET], &[("bridge", "br2"), ("cnci", "192.168.111.1")]));
    let state = b.kernel.state();
    let bare = state.links.values().all(|link| matches!(link, FakeLink::Bridge(addresses) if addresses.is_empty()));
    assert!(bare && state.links.len() == 2, "{state:?}");
    b.assert_consistent();
}

#[test]
fn a_deleted_network_leaves_nothing_and_again_is_a_success() {
    let b = Bench::new();
    let (rows, state) = (b.rows(), b.kernel.state());
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("tenant", "acme")]));
    b.run("e1", "n1", "192.168.111.2/24", "");
    b.stop("n1", "e1");
    delete(&b, "n1");
    delete(&b, "n1");
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
}

#[test]
fn a_bridge_stays_as_long_as_another_network_or_a_vnic_is_on_it() {
    let b = Bench::new();
    let options = [("tenant", "acme"), ("bridge", "br1")];
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &options));
    b.ok("CreateNetwork", &network("n2", &[SUBNET], &options));
    let made = b.vnic(&vnic("acme", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
    delete(&b, "n1");
    b.assert_consistent();
    delete(&b, "n2");
    b.assert_consistent();
    assert!(links_in(&b, "ciao-acme").contains(&"br1".to_owned()));
    b.delete_vnic(&made, false);
    b.assert_consistent();
    assert!(b.kernel.state().namespaces.is_empty());
}

#[test]
fn a_network_that_is_deleted_with_endpoints_takes_them_along() {
    let b = Bench::new();
    let (rows, state) = (b.rows(), b.kernel.state());
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[]));
    b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
    delete(&b, "n1");
    b.settle();
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
    b.ok("DeleteEndpoint", &names_of("n1", "e1"));
}

#[test]
fn a_tenant_passed_to_ciao_ipam_only_is_refused_with_the_missing_option() {
    let b = Bench::new();
    b.pool(SUBNET, "acme");
    for (options, missing) in [(&[][..], "give -o tenant=acme"), (&[("tenant", "blue")], "give -o tenant=acme")] {
        let error = b.call("CreateNetwork", &network_in("local", "n1", &[SUBNET], options)).unwrap_err();
        assert!(error.contains(missing), "{error}");
    }
    b.ok("CreateNetwork", &network_in("local", "n1", &[SUBNET], &[("tenant", "acme")]));
    b.ok("CreateNetwork", &network("n2", &[SUBNET], &[]));
    assert!(b.kernel.state().namespaces.len() == 2, "a network of another IPAM driver needs no tenant");
}

#[test]
fn a_swarm_s_leader_returns_the_options() {
    let b = Bench::new();
    let body = json!({ "NetworkID": "n1", "Options": { "tenant": "acme" }, "IPv4Data": null, "IPv6Data": null });
    assert_eq!(b.ok("AllocateNetwork", &body), json!({ "Options": { "tenant": "acme" } }));
    let body = json!({ "NetworkID": "n1", "Options": { "tenat": "acme" } });
    assert!(b.call("AllocateNetwork", &body).unwrap_err().contains("tenat"));
    assert_eq!(b.ok("FreeNetwork", &json!({ "NetworkID": "n1" })), json!({}));
}

#[test]
fn a_network_that_its_namespace_could_not_route_is_refused() {
    let b = Bench::new();
    let ula = b.store.write(|tx| tx.setting_or("uplink_pool6", "")).unwrap();
    for (subnet, options, expected) in [
        ("169.254.64.0/24", &[][..], "overlaps 169.254.64.0/18"),
        ("169.254.0.0/16", &[], "--uplink-pool"),
        (&*ula, &[], "overlaps"),
        (
            SUBNET,
            &[("routes", "10.0.0.0/8=192.168.112.1")],
            "192.168.112.1 is in no subnet of the network (192.168.111.0/24)",
        ),
        (SUBNET, &[("routes", "192.168.111.0/24")], "this is a subnet of the network itself"),
        (SUBNET, &[("routes", "0.0.0.0/0=192.168.111.9")], "--gateway"),
    ] {
        let error = b.call("CreateNetwork", &network("n1", &[subnet], options)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert!(b.kernel.state().namespaces.is_empty());
    // Where nothing leads out, nothing is routed.
    b.ok("CreateNetwork", &network("n1", &["169.254.64.0/24"], &[("egress", "none")]));
    b.ok("CreateNetwork", &network("n2", &[SUBNET], &[("routes", "10.0.0.0/8=192.168.111.9,10.9.0.0/16")]));
}

#[test]
fn a_network_is_shown_by_the_beginning_of_its_id() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("ab1", &[SUBNET], &[]));
    b.ok("CreateNetwork", &network("ab2", &[SUBNET], &[]));
    let show = |id: &str| b.launcher("GET", &format!("/v1/networks/{id}"), b"");
    assert_eq!(show("ab1").1["id"], json!(id("ab1")));
    for (prefix, code, expected) in
        [("ab", 409, "prefix ab matches several networks"), ("app", 404, "docker network ls")]
    {
        let (status, answer) = show(prefix);
        assert!(status == code && answer["error"].as_str().unwrap().contains(expected), "{answer}");
    }
}
