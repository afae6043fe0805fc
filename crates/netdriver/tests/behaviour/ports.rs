// SPDX-License-Identifier: Apache-2.0
//! Published ports: what is recorded and held. Whether packets pass is not seen here.

use std::net::TcpListener;

use ciao_netdriver::Shares;
use ciao_netdriver::reconcile::Depth;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{endpoint, names_of, network};

const SUBNET: &str = "192.168.111.0/24";

/// Tenants red's and blue's networks with a container of the same address each.
pub(super) fn two() -> Bench {
    let b = Bench::new();
    for tenant in ["red", "blue"] {
        b.ok("CreateNetwork", &network(tenant, &[SUBNET], &[("tenant", tenant)]));
        b.run(&format!("{tenant}1"), tenant, "192.168.111.2/24", "");
    }
    b
}

pub(super) fn binding(protocol: u8, (first, last): (u16, u16), address: &str) -> Value {
    json!({ "Proto": protocol, "IP": "", "Port": 80, "HostIP": address, "HostPort": first, "HostPortEnd": last })
}

pub(super) fn publish(network: &str, endpoint: &str, bindings: &[Value]) -> Value {
    let mut body = names_of(network, endpoint);
    body["Options"] = json!({ "com.docker.network.portmap": bindings });
    body
}

/// A port that nobody has now.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

pub(super) fn published(b: &Bench) -> Vec<String> {
    let ports = b.store.read(|tx| tx.ports()).unwrap();
    let show = |p: &ciao_common::store::Port| {
        format!("{} {}:{} {}:{}", p.protocol, p.host_address, p.host_port, p.address, p.container_port)
    };
    ports.iter().map(show).collect()
}

#[test]
fn a_published_port_is_recorded_and_held_until_it_is_released() {
    let b = two();
    let port = free_port();
    let body = publish("red", "red1", &[binding(6, (port, port), "")]);
    b.ok("ProgramExternalConnectivity", &body);
    b.ok("ProgramExternalConnectivity", &body);
    assert_eq!(published(&b), [format!("tcp 0.0.0.0:{port} 192.168.111.2:80")]);
    assert!(TcpListener::bind(("0.0.0.0", port)).is_err());
    b.ok("RevokeExternalConnectivity", &names_of("red", "red1"));
    b.ok("RevokeExternalConnectivity", &names_of("red", "red1"));
    assert_eq!(published(&b), [""; 0]);
    TcpListener::bind(("0.0.0.0", port)).unwrap();
}

#[test]
fn two_calls_at_once_for_one_endpoint_publish_its_ports_once() {
    for _ in 0..20 {
        let b = two();
        let port = free_port();
        let body = publish("red", "red1", &[binding(6, (port, port), "")]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| b.ok("ProgramExternalConnectivity", &body));
            }
        });
        assert_eq!(published(&b), [format!("tcp 0.0.0.0:{port} 192.168.111.2:80")]);
        assert!(TcpListener::bind(("0.0.0.0", port)).is_err());
    }
}

#[test]
fn an_endpoint_that_is_deleted_while_its_ports_are_published_leaves_none() {
    let b = two();
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[binding(6, (free_port(), 0), "")]));
    for round in 0..60 {
        let (name, port) = (format!("a{round}b"), free_port());
        b.run(&name, "red", &format!("192.168.111.{}/24", round + 3), "");
        let rules = b.kernel.state().rules;
        let publishing = publish("red", &name, &[binding(6, (port, port), ""), binding(17, (port, port), "")]);
        std::thread::scope(|scope| {
            // Whether it is refused depends on who is first.
            scope.spawn(|| drop(b.call("ProgramExternalConnectivity", &publishing)));
            scope.spawn(|| b.ok("DeleteEndpoint", &names_of("red", &name)));
        });
        b.settle();
        let left = b.kernel.state().rules;
        let new: Vec<_> =
            left.values().flatten().filter(|line| !rules.values().any(|old| old.contains(*line))).collect();
        assert!(new.is_empty(), "round {round}: {new:?}");
        assert_eq!(published(&b).len(), 1);
        TcpListener::bind(("0.0.0.0", port)).unwrap();
    }
}

#[test]
fn program_and_revoke_come_in_any_order_for_any_endpoint() {
    let b = two();
    let rows = b.rows();
    b.ok("RevokeExternalConnectivity", &names_of("red", "red1"));
    b.ok("RevokeExternalConnectivity", &names_of("red", "nobody"));
    b.ok("ProgramExternalConnectivity", &names_of("red", "nobody"));
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[]));
    let mut null = names_of("red", "red1");
    null["Options"] = json!({ "com.docker.network.portmap": null });
    b.ok("ProgramExternalConnectivity", &null);
    let error =
        b.call("ProgramExternalConnectivity", &publish("red", "nobody", &[binding(6, (0, 0), "")])).unwrap_err();
    assert!(error.contains("nobody000000 is unknown"), "{error}");
    assert_eq!(b.rows(), rows);
}

#[test]
fn both_families_of_a_container_have_the_same_port() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &["10.1.0.0/24", "fd00:1::/64"], &[]));
    b.run("e1", "n1", "10.1.0.2/24 fd00:1::2/64", "");
    b.ok("ProgramExternalConnectivity", &publish("n1", "e1", &[binding(6, (0, 0), "")]));
    let ports = b.store.read(|tx| tx.ports()).unwrap();
    assert_eq!((ports.len(), ports[0].host_port), (2, ports[1].host_port));
}

#[test]
fn a_port_on_a_network_without_egress_is_refused_before_anything_is_made() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("n1", &["10.3.0.0/24"], &[("egress", "none")]));
    let before = (b.rows(), format!("{:?}", b.kernel.state()));
    let mut body = endpoint("e1", "n1", "10.3.0.2/24", "");
    body["Options"]["com.docker.network.portmap"] = json!([binding(6, (8080, 8080), "")]);
    let error = b.call("CreateEndpoint", &body).unwrap_err();
    assert!(error.contains("port 80 ") && error.contains("egress=none") && error.contains("--internal"), "{error}");
    assert_eq!((b.rows(), format!("{:?}", b.kernel.state())), before);
    b.run("e1", "n1", "10.3.0.2/24", "");
}

#[test]
fn a_port_that_cannot_be_published_is_refused() {
    let b = two();
    let mut internal = network("n3", &["10.3.0.0/24"], &[]);
    internal["Options"]["com.docker.network.internal"] = json!(true);
    b.ok("CreateNetwork", &internal);
    b.run("e3", "n3", "10.3.0.2/24", "");
    let rows = b.rows();
    for (on, endpoint, binding, expected) in [
        ("n3", "e3", binding(6, (0, 0), ""), "egress=none"),
        ("red", "red1", binding(6, (0, 0), "203.0.113.7"), "not an address of this host"),
        (
            "red",
            "red1",
            binding(6, (0, 0), "::1"),
            "no address of that family, and there is no proxy: create its network with --ipv6",
        ),
        ("red", "red1", binding(1, (0, 0), ""), "protocol 1 cannot be published"),
    ] {
        let error = b.call("ProgramExternalConnectivity", &publish(on, endpoint, &[binding])).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    // A container without IPv6 leaves the port free there, for a proxy.
    let port = free_port();
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[binding(6, (port, port), "")]));
    assert!(TcpListener::bind(("127.0.0.1", port)).is_err());
    drop(TcpListener::bind(("::1", port)).unwrap());
    b.ok("RevokeExternalConnectivity", &names_of("red", "red1"));
    let mut wrong = names_of("red", "red1");
    wrong["Options"] = json!({ "com.docker.network.portmap": "8080:80" });
    assert!(b.call("ProgramExternalConnectivity", &wrong).unwrap_err().contains("8080:80"));
    assert_eq!(b.rows(), rows);
}

#[test]
fn ports_are_released_with_their_endpoint_even_if_superseded_or_its_network_is_deleted() {
    let b = two();
    let port = free_port();
    let program = |on: &str, endpoint: &str| {
        b.ok("ProgramExternalConnectivity", &publish(on, endpoint, &[binding(6, (port, port), "")]));
    };
    program("red", "red1");
    b.kill_containers();
    b.run("red2", "red", "192.168.111.2/24", "");
    program("red", "red2");
    b.stop("red", "red2");
    program("blue", "blue1");
    b.ok("DeleteNetwork", &json!({ "NetworkID": names_of("blue", "")["NetworkID"] }));
    b.settle();
    assert_eq!(published(&b), [""; 0]);
    TcpListener::bind(("0.0.0.0", port)).unwrap();
}

#[test]
fn ports_are_held_again_after_a_restart() {
    let b = two();
    let port = free_port();
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[binding(6, (port, port), "")]));
    let b = b.restarted();
    b.driver.resume().unwrap();
    assert!(TcpListener::bind(("0.0.0.0", port)).is_err());
    b.ok("RevokeExternalConnectivity", &names_of("red", "red1"));
    TcpListener::bind(("0.0.0.0", port)).unwrap();
}

#[test]
fn a_failing_firewall_leaves_no_port_published() {
    let b = two();
    let port = free_port();
    for passes in 0..2 {
        b.kernel.fail_after(Some(passes));
        let body = publish("red", "red1", &[binding(6, (port, port), "")]);
        assert!(b.call("ProgramExternalConnectivity", &body).is_err());
        b.kernel.fail_after(None);
        assert_eq!(published(&b), [""; 0]);
        TcpListener::bind(("0.0.0.0", port)).unwrap();
        // Taking them back failed, too.
        b.reconcile_to(Depth::Changed);
    }
    let missing = endpoint("e9", "red", "192.168.111.9/24", "");
    b.ok("CreateEndpoint", &missing);
    b.assert_consistent();
}

#[test]
fn ports_beyond_the_limit_of_open_files_are_refused_with_the_cause_and_all_else_goes_on() {
    let b = Bench::with_shares(Shares { published_ports: 2, ..Shares::default() });
    for tenant in ["red", "blue"] {
        b.ok("CreateNetwork", &network(tenant, &[SUBNET], &[("tenant", tenant)]));
        b.run(&format!("{tenant}1"), tenant, "192.168.111.2/24", "");
    }
    let any = binding(6, (0, 0), "");
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[any.clone(), any.clone()]));
    let rows = b.rows();
    let error =
        b.call("ProgramExternalConnectivity", &publish("blue", "blue1", std::slice::from_ref(&any))).unwrap_err();
    assert!(error.contains("2 ports are published already") && error.contains("raise LimitNOFILE"), "{error}");
    assert_eq!(b.rows(), rows);
    b.ok("CreateNetwork", &network("n3", &["10.3.0.0/24"], &[]));
    b.run("e3", "n3", "10.3.0.2/24", "");
    b.ok("RevokeExternalConnectivity", &names_of("red", "red1"));
    b.ok("ProgramExternalConnectivity", &publish("blue", "blue1", &[any]));
}
