// SPDX-License-Identifier: Apache-2.0
//! What is left on the host when the last network is gone: nothing.

use std::ops::Range;
use std::time::Instant;

use ciao_tests::lab::Host;
use ciao_tests::world::{network, serve, soon};

use crate::scene::{open, page, sql};

/// All of the host's firewall and of its links, without the counters.
const STATE: &str = "
    nft list ruleset | sed 's/counter packets [0-9]* bytes [0-9]*/counter/'
    for save in iptables-save ip6tables-save; do $save | sed 's/\\[[0-9:]*\\]$//; /^#/d'; done
    ls /sys/class/net; ip netns list | sed 's/ .*//' | sort; ls /run/netns; ip route; ip -6 route; ip rule";
const ROWS: &str = "SELECT (SELECT count(*) FROM uplink_record) + (SELECT count(*) FROM port_record)
    + (SELECT count(*) FROM vnic_record) + (SELECT count(*) FROM network_record)";

/// Networks of those numbers, of twenty tenants; every tenth has a container, which serves at port 8000 and more.
fn make(host: &Host, numbers: Range<u8>) {
    for number in numbers {
        let (name, tenant) = (format!("n{number}"), format!("t{}", number % 20));
        let subnets = format!("--subnet 10.{number}.0.0/24 --ipv6 --subnet fd00:{number}::/64");
        network(host, &name, &tenant, &subnets).unwrap();
        if number % 10 == 0 {
            serve(host, &name, &format!("--network {name} -p {}:80", 8000 + u16::from(number))).unwrap();
        }
    }
}

fn remove(host: &Host, numbers: Range<u8>) {
    for number in numbers {
        host.sh(&format!("docker rm -f n{number} 2>/dev/null || true; docker network rm n{number}")).unwrap();
    }
}

/// How many come and go: `CIAO_NETWORKS`, at most 100.
fn networks() -> u8 {
    std::env::var("CIAO_NETWORKS").map_or(30, |asked| asked.parse().expect("CIAO_NETWORKS is a number"))
}

#[test]
fn networks_come_and_go_and_leave_nothing_on_the_host() {
    let (host, _, internet) = open("traces");
    // The engine and iptables make tables of their own when they are first needed.
    make(&host, 100..101);
    remove(&host, 100..101);
    assert!(soon(|| !host.sh(STATE).unwrap().contains("ciao")), "{}", host.sh(STATE).unwrap());
    let before = host.sh(STATE).unwrap();

    let networks = networks();
    make(&host, 0..networks);
    let busy = host.sh(STATE).unwrap();
    for trace in ["table inet ciao", "ciao-t1", "\ncu", "-A CIAO-FORWARD -i cu+"] {
        assert!(busy.contains(trace), "{trace:?} would be seen: {busy}");
    }
    let uplinks = busy.lines().filter(|line| line.starts_with("cu")).count();
    println!("{networks} networks of {uplinks} tenants, {} lines of rules and links on the host", busy.lines().count());

    // Somebody's reload in the middle: Docker's own chains are Docker's to put back.
    let answers = |n: u8| internet.fetch(&format!("203.0.113.1:{}", 8000 + u16::from(n))) == page(&format!("n{n}"));
    let published = || (0..networks).step_by(10).all(answers);
    assert!(soon(published));
    for flush in ["nft delete table inet ciao", "iptables -F DOCKER-USER"] {
        host.sh(flush).unwrap();
        let since = Instant::now();
        assert!(soon(published), "after `{flush}`");
        println!("`{flush}`: published ports answer again after {:.1} s", since.elapsed().as_secs_f32());
    }
    if before.contains("-A DOCKER-USER -j RETURN") {
        host.sh("iptables -A DOCKER-USER -j RETURN").unwrap(); // as Docker had it
    }

    remove(&host, 0..networks);
    // Links are deleted in the background.
    let is_as_before = soon(|| host.sh(STATE).unwrap() == before);
    assert!(is_as_before, "before:\n{before}\nafter:\n{}", host.sh(STATE).unwrap());
    println!("after: the same {} lines as before", before.lines().count());
    assert_eq!(sql(&host, ROWS), "0");
}
