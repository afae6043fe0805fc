// SPDX-License-Identifier: Apache-2.0
//! Two networks, typed with Docker's two commands and no word of a tenant: the same subnet and the same addresses at the
//! same time.

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
