// SPDX-License-Identifier: Apache-2.0
//! Bad input of any kind: an error that names the value, and nothing changed.

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{endpoint, id, names_of, network, vnic};

const SUBNET: &str = "192.168.111.0/24";

fn bench() -> Bench {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("tenant", "acme"), ("bridge", "br1")]));
    b.vnic(&vnic("acme", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
    b.run("e1", "n1", "192.168.111.3/24", "");
    b
}

const METHODS: [&str; 13] = [
    "AllocateNetwork",
    "FreeNetwork",
    "CreateNetwork",
    "DeleteNetwork",
    "CreateEndpoint",
    "DeleteEndpoint",
    "EndpointOperInfo",
    "Join",
    "Leave",
    "ProgramExternalConnectivity",
    "RevokeExternalConnectivity",
    "DiscoverNew",
    "DiscoverDelete",
];

#[test]
fn an_empty_or_senseless_body_is_refused_by_every_method() {
    let b = bench();
    let (rows, state) = (b.rows(), b.kernel.state());
    for method in METHODS {
        for (body, expected) in [
            (&b""[..], "the request body is empty"),
            (b"pizza", "not JSON"),
            (b"{\"NetworkID\":", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"null", "invalid type"),
            (b"42", "invalid type"),
            (b"{}", "missing field"),
            (b"{\"NetworkID\":\"\",\"EndpointID\":\"\",\"DiscoveryType\":\"x\"}", ""),
            (b"{\"NetworkID\":\"../x\",\"EndpointID\":\"../x\",\"DiscoveryType\":[]}", ""),
        ] {
            let (status, reply) = b.raw(method, body);
            let error = reply["Err"].as_str().unwrap_or_default();
            assert_eq!(status, 400, "{method} {reply}");
            assert!(!error.is_empty() && error.contains(expected), "{method}: {error}");
        }
    }
    let deep = "[".repeat(100_000);
    assert_eq!(b.raw("CreateNetwork", deep.as_bytes()).0, 400);
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
}

#[test]
fn an_unknown_method_is_a_bare_404() {
    assert_eq!(bench().raw("Pizza", b"{}"), (404, Value::Null));
}

#[test]
fn a_network_with_a_wrong_value_is_refused_by_name() {
    let b = bench();
    let (rows, state) = (b.rows(), b.kernel.state());
    let option = |key, value| network("n2", &["10.2.0.0/24"], &[(key, value)]);
    let subnet = |key: &str, value: Value| {
        let mut body = network("n2", &["10.2.0.0/24"], &[]);
        body["IPv4Data"][0][key] = value;
        body
    };
    let mut egress = option("egress", "nat");
    egress["Options"]["com.docker.network.internal"] = json!(true);
    for (body, expected) in [
        (option("brigde", "x"), "unknown option --opt brigde: options of ciao-net are tenant, bridge,"),
        (option("bridge", "1234567890123456"), "1234567890123456"),
        (option("bridge", "a/b"), "a/b"),
        (option("bridge", "\""), "may contain only letters, digits"),
        (option("bridge", "br+"), "may contain only letters, digits"),
        (option("bridge", "br*"), "may contain only letters, digits"),
        (option("bridge", "-x"), "may not begin with '-'"),
        (option("bridge", "all"), "give another one"),
        (option("host_bridge", "br'1"), "may contain only letters, digits"),
        (option("dst_prefix", "eth\""), "dst_prefix"),
        (option("tenant", "../x"), "../x"),
        (option("tenant", &"x".repeat(64)), "64 bytes"),
        (option("cnci", "not-an-ip"), "not-an-ip"),
        (option("vnics", "maybe"), "maybe"),
        (option("egress", "mars"), "mars"),
        (option("routes", "10.0.0.0/8=x"), "\"x\" is not an IP address"),
        (option("port_security", "perhaps"), "perhaps"),
        (option("com.docker.network.driver.mtu", "67"), "67"),
        (egress, "--internal"),
        (subnet("Pool", json!("not-a-cidr")), "not-a-cidr"),
        (subnet("Pool", json!("10.2.0.0/33")), "10.2.0.0/33"),
        (subnet("Gateway", json!("not-an-ip")), "not-an-ip"),
        (subnet("Gateway", json!("10.3.0.1/24")), "10.3.0.1 is outside of subnet 10.2.0.0/24"),
        (subnet("Gateway", json!("fd00::1/64")), "fd00::1"),
        (network("n2", &["10.2.0.0/24", "10.2.0.128/25"], &[]), "overlap"),
        (network("n2", &["192.168.111.0/25"], &[("tenant", "acme")]), "overlaps"),
        (network(&"n".repeat(65), &[], &[]), "65 bytes"),
    ] {
        let error = b.call("CreateNetwork", &body).unwrap_err();
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        assert_eq!((&b.rows(), &b.kernel.state()), (&rows, &state), "{error}");
    }
}

#[test]
fn an_endpoint_with_a_wrong_value_is_refused_by_name() {
    let b = bench();
    let (rows, state) = (b.rows(), b.kernel.state());
    let option = |key: &str, value: &str| {
        let mut body = endpoint("e2", "n1", "192.168.111.9/24", "");
        body["Options"][key] = json!(value);
        body
    };
    for (body, expected) in [
        (endpoint("e2", "n9", "192.168.111.9/24", ""), "network n90000000000 is unknown"),
        (endpoint("e2", "n1", "not-an-ip", ""), "not-an-ip"),
        (endpoint("e2", "n1", "10.9.9.9/24", ""), "10.9.9.9 is outside of network n10000000000"),
        (endpoint("e2", "n1", "fd00::9/64", ""), "fd00::9 is outside of network n10000000000"),
        (endpoint("e2", "n1", "192.168.111.3/24", ""), "192.168.111.3 is in use by endpoint e10000000000"),
        (endpoint("e2", "n1", "192.168.111.9/24", "pizza"), "pizza"),
        (endpoint("e2", "n1", "192.168.111.9/24", "01:00:5e:00:00:01"), "01:00:5e:00:00:01"),
        (endpoint("e2", "n1", "192.168.111.9/24", "00:00:00:00:00:00"), "00:00:00:00:00:00"),
        (endpoint("e2", "n1", "192.168.111.2/24", "02:00:00:00:00:03"), "02:00:00:00:00:02"),
        (option("instanse", "i1"), "unknown option driver-opt instanse: options of ciao-net are instance, vnic"),
        (option("instance", "a b"), "a b"),
        (option("vnic", "0123456789"), "VNIC 0123456789 is unknown"),
        (option("vnic", "../x"), "../x"),
        (option("allowed_addresses", "x"), "\"x\" is not an IP address"),
    ] {
        let error = b.call("CreateEndpoint", &body).unwrap_err();
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        b.settle();
        assert_eq!((&b.rows(), &b.kernel.state()), (&rows, &state), "{error}");
    }
}

#[test]
fn calls_for_unknown_endpoints_are_errors_or_nothing() {
    let b = bench();
    let (rows, state) = (b.rows(), b.kernel.state());
    for method in ["Join", "EndpointOperInfo"] {
        let error = b.call(method, &names_of("n1", "e9")).unwrap_err();
        assert!(error.contains("endpoint e90000000000 is unknown"), "{error}");
    }
    for method in ["Leave", "DeleteEndpoint", "RevokeExternalConnectivity", "ProgramExternalConnectivity"] {
        assert_eq!(b.ok(method, &names_of("n9", "e9")), json!({}), "{method}");
    }
    assert_eq!(b.ok("DeleteNetwork", &json!({ "NetworkID": id("n9") })), json!({}));
    assert_eq!((b.rows(), b.kernel.state()), (rows, state));
}

#[test]
fn a_launcher_s_wrong_value_is_refused_by_name() {
    let b = bench();
    let (rows, state) = (b.rows(), b.kernel.state());
    let with = |key: &str, value: Value| {
        let mut body = vnic("acme", "i9", SUBNET, "192.168.111.9", "02:00:00:00:00:09");
        body[key] = value;
        body
    };
    for (body, status, expected) in [
        (with("tenat", json!("x")), 400, "tenat"),
        (with("tenant", json!("")), 400, "tenant is empty"),
        (with("tenant", json!("../x")), 400, "../x"),
        (with("instance", json!("a/b")), 400, "a/b"),
        (with("subnet", json!("not-a-subnet")), 400, "not-a-subnet"),
        (with("address", json!("not-an-ip")), 400, "not-an-ip"),
        (with("address", json!("10.0.0.9")), 422, "10.0.0.9 is outside of subnet 192.168.111.0/24"),
        (with("address", json!("fd00::9")), 422, "fd00::9"),
        (with("address", json!("192.168.111.0")), 422, "the network's or broadcast"),
        (with("address", json!("192.168.111.255")), 422, "the network's or broadcast"),
        (with("address", json!("192.168.111.1")), 422, "is the gateway's"),
        (with("mac", json!("pizza")), 400, "pizza"),
        (with("mac", json!("ff:ff:ff:ff:ff:ff")), 400, "ff:ff:ff:ff:ff:ff"),
        (with("gateway", json!("10.0.0.1")), 422, "10.0.0.1 is outside of subnet"),
        (with("mtu", json!(67)), 400, "67"),
        (with("mtu", json!("many")), 400, "many"),
        (with("bridge", json!("1234567890123456")), 400, "16 bytes"),
        (with("subnet6", json!("fd00::/64")), 422, "needs address6"),
        (with("address6", json!("fd00::9")), 422, "needs subnet6"),
        (with("network", json!("a b")), 422, "a b"),
        (with("allowed_addresses", json!(["pizza"])), 400, "pizza"),
        (with("gateway", json!("no-gateway")), 400, "no-gateway"),
        (with("address6", json!("no-address6")), 400, "no-address6"),
        (json!({}), 400, "missing field"),
    ] {
        let (is, reply) = b.make_vnic(&body);
        let error = reply["error"].as_str().unwrap_or_default();
        assert!(is == status && error.contains(expected), "{is} {reply} should contain {expected:?}");
        assert_eq!((&b.rows(), &b.kernel.state()), (&rows, &state), "{error}");
    }
}

#[test]
fn a_launcher_s_wrong_call_is_refused_in_json() {
    let b = bench();
    let (rows, state) = (b.rows(), b.kernel.state());
    for (method, target, body, status) in [
        ("POST", "/v1/vnics", &b""[..], 400),
        ("POST", "/v1/vnics", b"pizza", 400),
        ("PUT", "/v1/vnics", b"{}", 405),
        ("GET", "/v1/pizza", b"", 404),
        ("GET", "/", b"", 404),
        ("GET", "/v1/vnics/a%20b", b"", 404),
        ("GET", "/v1/vnics?tenat=x", b"", 400),
        ("GET", "/v1/vnics?tenant=", b"", 400),
        ("DELETE", "/v1/vnics/0123456789?force=maybe", b"", 400),
        ("DELETE", "/v1/vnics/0123456789", b"", 200),
    ] {
        let (is, reply) = b.launcher(method, target, body);
        assert_eq!(is, status, "{method} {target} {reply}");
        assert_eq!(reply["error"].is_string(), status != 200, "{reply}");
    }
    let mut other = vnic("acme", "i9", "10.9.0.0/24", "10.9.0.2", "02:00:00:00:00:09");
    b.kernel.change(|state| {
        let link = ciao_netdriver::kernel::fake::FakeLink::Other;
        state.links.insert((ciao_netdriver::kernel::Namespace::Host, "eth0".parse().unwrap()), link);
    });
    other["host_bridge"] = json!("eth0");
    let (status, reply) = b.make_vnic(&other);
    assert!(status < 500 && reply["error"].as_str().unwrap().contains("not a bridge"), "{status} {reply}");
    b.kernel.change(|now| *now = state.clone());
    assert_eq!(b.rows(), rows);
}
