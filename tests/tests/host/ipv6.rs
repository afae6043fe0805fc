// SPDX-License-Identifier: Apache-2.0
//! The host's own IPv6: its router's advertisements, and hosts where it is off.

use ciao_tests::frames::{Station, icmp6};
use ciao_tests::lab::Host;
use ciao_tests::world::{Place, network, serve, soon};

use crate::scene::{SUBNETS, page};

/// A router's advertisement to all nodes (RFC 4861, 4.2): a default route for half an hour, no prefixes.
fn advertise(router: &Place, mac: [u8; 6]) {
    let from = Station { mac, v4: [0, 0, 0, 0].into(), v6: "fe80::1".parse().unwrap() };
    let all = Station { mac: [0x33, 0x33, 0, 0, 0, 1], v4: from.v4, v6: "ff02::1".parse().unwrap() };
    let frame = icmp6(from, all, 134, [64, 0, 0x07, 0x08], &[0; 8]);
    router.wire("eth0").unwrap().send(&frame).unwrap();
}

#[test]
fn the_hosts_default_route_from_its_router_stays() {
    let host = Host::builder().name("ra").start().unwrap();
    host.sh(
        "ip netns add router; ip link add wan0 type veth peer name eth0 netns router
        ip -n router link set eth0 address 02:00:00:00:00:01 up; ip link set wan0 up
        echo 1 >/proc/sys/net/ipv6/conf/wan0/accept_ra
        until ip -6 address show dev wan0 scope link | grep -q fe80 && ! ip -6 address show dev wan0 | grep -q tentative; do sleep 0.1; done",
    )
    .unwrap();
    let router = Place::named(&host, "router").unwrap();
    let has_route = || host.sh("ip -6 route show default").unwrap().contains("via fe80::1 dev wan0 proto ra");
    let hears = || {
        advertise(&router, [2, 0, 0, 0, 0, 1]);
        soon(has_route)
    };
    assert!(hears(), "{}", host.sh("ip -6 route; ip -6 addr").unwrap());
    network(&host, "red", "red", SUBNETS).unwrap();
    assert_eq!(host.sh("cat /proc/sys/net/ipv6/conf/all/forwarding").unwrap(), "1");
    assert!(has_route(), "it is still there");
    host.sh("ip -6 route delete default dev wan0").unwrap();
    assert!(hears(), "and it comes back");
    // A link that comes later.
    assert_eq!(
        host.sh("ip link add late0 type veth peer name late1; cat /proc/sys/net/ipv6/conf/late0/accept_ra").unwrap(),
        "2"
    );
    // Tenants' links take none.
    let links = host.sh("cat /proc/sys/net/ipv6/conf/cu*/accept_ra").unwrap();
    assert_eq!(links, "0");
    // It sees: so it is without, while nobody restores it.
    host.ciao_net().stop().unwrap();
    host.sh("echo 1 >/proc/sys/net/ipv6/conf/wan0/accept_ra; ip -6 route delete default dev wan0").unwrap();
    advertise(&router, [2, 0, 0, 0, 0, 1]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(!has_route(), "with accept_ra=1 a host that forwards listens to no router");
    host.ciao_net().start().unwrap();
    assert!(hears());
}

#[test]
fn ipv6_that_is_off_by_sysctl_is_on_for_tenants_links_alone() {
    let host = Host::builder().name("off").start().unwrap();
    let internet = Place::internet(&host).unwrap();
    host.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1").unwrap();
    network(&host, "red", "red", SUBNETS).unwrap();
    let red = serve(&host, "red", "--network red -p 8080:80").unwrap();
    network(&host, "back", "red", "--ipv6 --subnet 10.6.0.0/24 --subnet fd00:6::/64").unwrap();
    let back = serve(&host, "back", "--network back --ip 10.6.0.2 --ip6 fd00:6::2").unwrap();
    assert_eq!(red.fetch("203.0.113.2:80"), page("internet"));
    assert_eq!(internet.fetch("203.0.113.1:8080"), page("red"));
    assert!(soon(|| red.fetch("[fd00:6::2]:80") == page("back")), "inside the tenant IPv6 works");
    drop(back);
    let off = "grep -l 1 /proc/sys/net/ipv6/conf/*/disable_ipv6 | cut -d/ -f7";
    let off = host.sh(off).unwrap();
    assert!(off.lines().any(|link| link == "ext0") && off.lines().any(|link| link == "all"), "{off}");
    assert!(!off.lines().any(|link| link.starts_with("cu")), "{off}");
    // After a restart of the daemon too.
    host.ciao_net().stop().unwrap();
    host.ciao_net().start().unwrap();
    assert_eq!(red.fetch("203.0.113.2:80"), page("internet"));
}
