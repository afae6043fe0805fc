// SPDX-License-Identifier: Apache-2.0
//! Two networks, typed with Docker's two commands and no word of a tenant: the same subnet and the same addresses at
//! the same time.

use crate::hosts::shared;
use crate::scene::{assert_nothing_left, at_once, is_cut_off, network, reaches, refused, run, sql};

const SUBNET: [&str; 4] = ["--subnet", "192.168.111.0/24", "--gateway", "192.168.111.1"];

#[test]
fn two_networks_without_a_tenant_may_have_the_same_subnet_and_addresses() {
    let host = shared();
    for (name, bridge, own) in [("one", "br1", "192.168.111.3"), ("two", "br2", "192.168.111.4")] {
        network(&host, name, &[&SUBNET[..], &["--opt", &format!("bridge={bridge}")]].concat());
        run(&host, &format!("{name}-a"), &["--network", name, "--ip", "192.168.111.2"]);
        run(&host, &format!("{name}-b"), &["--network", name, "--ip", own]);
    }
    for (container, neighbour, foreign) in
        [("one-a", "192.168.111.3", "192.168.111.4"), ("two-a", "192.168.111.4", "192.168.111.3")]
    {
        assert!(reaches(&host, container, neighbour));
        assert!(reaches(&host, container, "192.168.111.1"), "the gateway answers");
        assert!(is_cut_off(&host, container, foreign), "{container} must not reach the other network");
    }
    // One network's end is not the other's.
    host.sh("docker rm -f one-a one-b; docker network rm one").unwrap();
    assert!(reaches(&host, "two-a", "192.168.111.4"));
    refused(&host, "docker run --rm --network two --ip 192.168.111.2 busybox true", &["192.168.111.2", "in use"]);
    host.sh("docker rm -f two-a two-b; docker network rm two").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn networks_made_at_the_same_moment_are_not_mixed_up() {
    let host = shared();
    let names = ["n1", "n2", "n3", "n4"];
    let create = |name: &str| {
        let options = format!("--subnet 10.1.0.0/24 --gateway 10.1.0.1 --opt bridge=br-{name}");
        format!("docker network create -d ciao-net --ipam-driver ciao-ipam {options} {name}")
    };
    at_once(&host, names.map(create));
    let start = |name: &str| format!("docker run -d --name c-{name} --network {name} --ip 10.1.0.2 busybox sleep 600");
    at_once(&host, names.map(start));
    for name in names {
        assert!(reaches(&host, &format!("c-{name}"), "10.1.0.1"));
    }
    let networks = sql(&host, "SELECT count(DISTINCT network) FROM lease WHERE state = 'bound'");
    assert_eq!(networks, "4", "each network has its own lease of 10.1.0.2");
    host.sh("docker rm -f c-n1 c-n2 c-n3 c-n4; docker network rm n1 n2 n3 n4").unwrap();
    assert_nothing_left(&host, &[]);
}

/// Two projects of two tenants, told to the network driver alone, with one subnet at the same moment; then each
/// tenant's second network without a subnet. `CIAO_ROUNDS` asks for more rounds.
#[test]
fn two_tenants_networks_with_one_subnet_made_at_the_same_moment_are_each_tenant_s_own() {
    let host = shared();
    let rounds = std::env::var("CIAO_ROUNDS").map_or(2, |rounds| rounds.parse().expect("CIAO_ROUNDS is a number"));
    let tenants = ["red", "blue"];
    let ours = "-d ciao-net --ipam-driver ciao-ipam";
    for round in 0..rounds {
        at_once(
            &host,
            tenants.map(|tenant| {
                format!("docker network create {ours} -o tenant={tenant} --subnet 10.1.0.0/24 {tenant} || true")
            }),
        );
        // An engine that gives no nonce of its own to each network has one of the two refused: that one is made again.
        for tenant in tenants {
            let create = format!("docker network create {ours} -o tenant={tenant} --subnet 10.1.0.0/24 {tenant}");
            host.sh(&format!("docker network inspect {tenant} >/dev/null 2>&1 || {create}")).unwrap();
        }
        at_once(
            &host,
            tenants.map(|tenant| format!("docker run -d --name c-{tenant} --network {tenant} busybox sleep 600")),
        );
        let owners =
            "SELECT l.tenant || '=' || n.tenant FROM lease l JOIN network_record n ON n.id = l.network ORDER BY 1";
        let leases = sql(&host, owners);
        assert_eq!(leases, ["blue=blue", "blue=blue", "red=red", "red=red"].join("\n"), "round {round}");
        at_once(&host, tenants.map(|tenant| format!("docker network create {ours} -o tenant={tenant} {tenant}-2")));
        for tenant in tenants {
            assert_eq!(sql(&host, &format!("SELECT count(*) FROM network_record WHERE tenant = '{tenant}'")), "2");
        }
        host.sh("docker rm -f c-red c-blue; docker network rm red blue red-2 blue-2").unwrap();
    }
    assert_nothing_left(&host, &[]);
}
