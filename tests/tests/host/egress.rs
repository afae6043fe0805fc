// SPDX-License-Identifier: Apache-2.0
//! The operator's own networks: closed to tenants by `--egress-deny`, but for what a network's `egress_allow` has.

use ciao_tests::lab::Host;
use ciao_tests::world::{Place, kill_with_guard, network, serve, soon};

use crate::scene::{SUBNETS, page, sql};

/// The operator's machines, behind the host's router, which return `internet` too. The last is nobody's in particular.
const AT: [&str; 4] = ["10.20.0.1:80", "10.20.1.1:80", "[2001:db8:20::1]:80", "203.0.113.2:80"];
const ADDRESSES: &str = "for address in 10.20.0.1/32 10.20.1.1/32 2001:db8:20::1/128; do
    ip -n inet address add $address dev lo nodad; done";
/// One of them overlaps another.
const DENY: [&str; 8] = [
    "--egress-deny",
    "10.20.0.0/16",
    "--egress-deny",
    "10.0.0.0/8",
    "--egress-deny",
    "2001:db8:20::/48",
    "--egress-deny",
    "198.18.0.0/15",
];

/// Which of [`AT`] answer.
fn reached(container: &Place) -> [bool; 4] {
    container.fetch_each(AT).map(|answer| answer == page("internet"))
}

#[test]
fn tenants_reach_of_the_operators_networks_what_their_network_allows() {
    let host = Host::builder().name("deny").ciao_net_args(DENY).start().unwrap();
    let internet = Place::internet(&host).unwrap();
    host.sh(ADDRESSES).unwrap();
    network(&host, "red", "red", SUBNETS).unwrap();
    let allow = "-o egress_allow=10.20.1.0/24,2001:db8:20::/64";
    network(&host, "blue", "blue", &format!("{SUBNETS} {allow}")).unwrap();
    let red = serve(&host, "red", "--network red -p 8080:80").unwrap();
    let blue = serve(&host, "blue", "--network blue").unwrap();
    let is = |red_reaches: [bool; 4], blue_reaches: [bool; 4]| {
        reached(&red) == red_reaches && reached(&blue) == blue_reaches
    };
    let (closed, allowed) = ([false, false, false, true], [false, true, true, true]);
    assert!(soon(|| is(closed, allowed)), "{:?} {:?}", reached(&red), reached(&blue));
    // A client there is answered, from an address of its own.
    host.sh("ip -n inet route change 203.0.113.0/24 dev eth0 src 10.20.0.1").unwrap();
    assert_eq!(internet.fetch("203.0.113.1:8080"), page("red"));

    // It is shown, survives a restart and a flush, and is no difference.
    let id = sql(&host, "SELECT network FROM network WHERE tenant = 'blue'");
    let shown = host.sh(&format!("ciao-net network show {id} --json")).unwrap();
    for value in ["10.20.1.0/24", "2001:db8:20::/64", "198.18.0.0/15"] {
        assert!(shown.contains(value), "{value}: {shown}");
    }
    host.ciao_net().stop().unwrap();
    host.ciao_net().start().unwrap();
    assert!(is(closed, allowed), "after a restart");
    host.sh("nft flush ruleset").unwrap();
    assert!(!reached(&red)[0], "the guard holds");
    assert!(soon(|| is(closed, allowed)), "after a flush");
    let same = host.sh("ciao-net reconcile --dry-run").unwrap();
    assert_eq!(same, "nothing to do");

    // Another network of the tenant's, whose list overlaps, comes and goes: its list is its own.
    let more = "--subnet 10.6.0.0/24 -o egress_allow=10.20.0.0/16";
    network(&host, "more", "blue", more).unwrap();
    let container = serve(&host, "more", "--network more").unwrap();
    assert!(soon(|| reached(&container) == [true, true, false, true]), "{:?}", reached(&container));
    assert!(is(closed, allowed));
    drop(container);
    host.sh("docker rm -f more; docker network rm more").unwrap();
    assert!(soon(|| is(closed, allowed)));

    kill_with_guard(&host).unwrap();
    host.sh("nft flush set inet ciao egress_deny4; nft flush set inet ciao egress_deny6").unwrap();
    assert!(is([true; 4], [true; 4]), "without the list everything answers");
}

#[test]
fn an_allow_list_that_has_no_meaning_is_refused() {
    let host = Host::builder().name("allow").start().unwrap();
    let create = "docker network create -d ciao-net --ipam-driver ciao-ipam -o tenant=red --subnet 10.5.0.0/24";
    for (options, expected) in [
        ("-o egress_allow=10.0.0.1", "egress_allow=10.0.0.1"),
        ("-o egress=none -o egress_allow=10.0.0.0/8", "egress=none"),
        ("--internal -o egress_allow=10.0.0.0/8", "egress=none"),
    ] {
        let refused = host.try_sh(&format!("{create} {options} net")).unwrap();
        assert!(refused.code != 0 && refused.stderr.contains(expected), "{refused:?}");
    }
    assert_eq!(sql(&host, "SELECT count(*) FROM network"), "0");
}
