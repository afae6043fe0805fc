// SPDX-License-Identifier: Apache-2.0
//! Many `docker run` at once, on one network and on ten of five tenants: each container gets an address of its own, and
//! nothing remains of them.

use std::collections::BTreeSet;
use std::time::Instant;

use ciao_tests::checker::differences;
use ciao_tests::lab::{Engine, Host};

use crate::scene::check_addresses;

/// How many commands run at a time, which is all of them.
const CONTAINERS: usize = 50;
const NETWORKS: usize = 10;
const TENANTS: usize = 5;

/// Starts and removes containers, each on its network, all at once. Two of a network never have one address.
fn burst(name: &str, network_of: impl Fn(usize) -> usize) {
    let host = Host::builder().name(name).start().unwrap();
    let networks: BTreeSet<usize> = (0..CONTAINERS).map(&network_of).collect();
    for network in &networks {
        // Two networks of each tenant, and every tenant has the same two subnets.
        let (tenant, subnet) = (network % TENANTS, network / TENANTS);
        let options = format!("--subnet 10.{subnet}.0.0/24 -o tenant=t{tenant} --ipam-opt tenant=t{tenant}");
        host.sh(&format!("docker network create -d ciao-net --ipam-driver ciao-ipam {options} n{network}")).unwrap();
    }
    let all_at_once = |command: &dyn Fn(usize) -> String| {
        let since = Instant::now();
        let start = |number: usize| format!("{} >/dev/null & all=\"$all $!\"\n", command(number));
        let starts: String = (0..CONTAINERS).map(start).collect();
        let output = host.try_sh(&format!("all=\n{starts}for one in $all; do wait $one; done")).unwrap();
        let log = || host.ciao_net().log().unwrap();
        assert_eq!(output.code, 0, "{}\nciao-net printed:\n{}", output.stderr, log());
        since.elapsed()
    };
    let run = |number| format!("docker run -d --name c{number} --network n{} busybox sleep 600", network_of(number));
    let started = all_at_once(&run);
    assert_eq!(differences(&host).unwrap(), [""; 0]);
    let format = "{{range $name, $at := .NetworkSettings.Networks}}{{$name}} {{$at.IPAddress}}{{end}}";
    let addresses = host.sh(&format!("docker inspect -f '{format}' $(docker ps -q) | sort -u")).unwrap();
    assert_eq!(
        addresses.lines().count(),
        CONTAINERS,
        "every container has another address on its network:\n{addresses}"
    );
    let removed = all_at_once(&|number| format!("docker rm -f c{number}"));
    assert_eq!(differences(&host).unwrap(), [""; 0], "without any repair");
    check_addresses(&host);
    println!(
        "engine {}: {CONTAINERS} containers at once on {} networks: started in {started:.1?}, removed in {removed:.1?}",
        Engine::from_environment().unwrap(),
        networks.len()
    );
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn fifty_containers_of_one_network_at_once_have_fifty_addresses_and_leak_nothing() {
    burst("burst", |_| 0);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn fifty_containers_of_ten_networks_of_five_tenants_at_once_leak_nothing() {
    burst("bursts", |container| container % NETWORKS);
}
