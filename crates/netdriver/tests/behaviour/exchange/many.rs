// SPDX-License-Identifier: Apache-2.0
//! One daemon among many hosts: what they say, and what it says to them, costs little more with each. Prints figures.

use std::net::IpAddr;
use std::time::Instant;

use ciao_netdriver::kernel::{Namespace, Rules as _};

use super::members::{Cluster, Member};
use super::scripted::{ADDRESSES, NETWORK, Scripted, instance};
use super::soon;
use crate::bench::Bench;

/// The daemon, `h1`, and so many other hosts in its list.
fn among(count: u16) -> (Cluster, Member, Scripted) {
    let cluster = Cluster::new();
    let hosts = (0..count).map(|n| {
        let (name, [high, low]) = (format!("p{n}"), n.to_be_bytes());
        let mut identity = cluster.identity(0);
        (identity.cert, identity.key) = (cluster.path(&format!("{name}.pem")), cluster.path(&format!("{name}.key")));
        cluster.authority.certify(&identity, &name, 2100);
        (name, IpAddr::from([127, 64 + high, cluster.net, low]), identity)
    });
    let hosts: Vec<_> = hosts.collect();
    std::fs::write(&cluster.identity(0).ca, &cluster.authority.pem).unwrap();
    let scripted = Scripted::start(hosts, cluster.port);
    let member = cluster.member(1, &[1]);
    member.network(NETWORK.0, NETWORK.1, &NETWORK.2.to_string());
    let list = cluster.config(1).hosts;
    std::fs::write(&list, format!("h1 {}\n{}", cluster.address(1), scripted.lines())).unwrap();
    let known = || member.ask("GET", "/v1/hosts")["hosts"].as_array().unwrap().len() == usize::from(count) + 1;
    soon("the list of hosts is read", known);
    (cluster, member, scripted)
}

fn exchange_among(count: u16) {
    let (cluster, member, scripted) = among(count);
    let reached = || {
        let state = member.bench.kernel.state();
        state.neighbours.keys().filter(|(.., at)| *at <= instance(usize::from(count), 0)).count()
    };
    let writes = || member.bench.kernel.rules_generation(&Namespace::Host).unwrap().unwrap();
    let before = writes();
    let since = Instant::now();
    scripted.tell_all(cluster.address(1), 1);
    println!("{count} lists of {ADDRESSES} addresses are answered after {:?}", since.elapsed());
    soon("what is answered is in the kernel", || reached() == usize::from(count) * ADDRESSES);
    let writes = writes() - before;
    println!("in the kernel after {:?} and {writes} writes of rules, {}", since.elapsed(), memory());
    assert!(writes < u32::from(count), "lists that come together are followed together");

    let address: IpAddr = "10.79.0.1".parse().unwrap();
    let since = Instant::now();
    run(&member.bench, "more", &address.to_string());
    soon("all hosts have the address", || scripted.having(address) == usize::from(count));
    println!("an address of the daemon's is on {count} hosts after {:?}", since.elapsed());

    let since = Instant::now();
    scripted.tell(0, cluster.address(1), 2, 0..ADDRESSES - 1);
    println!("another host's change is answered after {:?}", since.elapsed());
    soon("the change is in the kernel", || reached() == usize::from(count) * ADDRESSES - 1);
    println!("in the kernel after {:?}", since.elapsed());
    let gone = instance(0, ADDRESSES - 1);
    assert!(!member.bench.kernel.state().neighbours.keys().any(|(.., at)| *at == gone));

    let since = Instant::now();
    let problems = member.ask("GET", "/v1/status")["problems"].to_string();
    assert!(!problems.contains("host p"), "{problems}");
    println!("status: {:?}", since.elapsed());
    let since = Instant::now();
    member.ask("GET", "/v1/status");
    println!("status, again: {:?}", since.elapsed());
}

/// This process's memory, with the other hosts.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned()
}

fn run(bench: &Bench, name: &str, address: &str) {
    bench.run(name, &format!("{}{}", NETWORK.0, NETWORK.2), &format!("{address}/12"), "");
}

#[test]
fn a_hundred_hosts_are_heard_and_told() {
    exchange_among(100);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn a_thousand_hosts_are_heard_and_told() {
    exchange_among(1000);
}
