// SPDX-License-Identifier: Apache-2.0
//! The other kinds of egress: a router of one's own, Docker's, none.

use std::thread::sleep;
use std::time::Duration;

use ciao_common::types::Subnet;
use ciao_tests::lab::Host;
use ciao_tests::world::{Place, kill_with_guard, network, serve, soon};

use crate::scene::{SUBNETS, open, page, refused, sql, with_internet};

#[test]
fn a_port_on_a_network_that_does_not_lead_out_is_refused() {
    let (host, itself, _) = open("closed");
    for (name, subnet, egress) in [("router", "10.5.0.0/24", "gateway"), ("nowhere", "10.6.0.0/24", "none")] {
        network(&host, name, "red", &format!("--subnet {subnet} -o egress={egress}")).unwrap();
        let words = ["port 80 cannot be published", &format!("egress={egress}")];
        refused(&host, &format!("docker run --network {name} -p 8080:80 busybox true"), &words);
    }
    assert_eq!(sql(&host, "SELECT count(*) FROM endpoint"), "0", "what was refused left nothing");

    // Docker publishes nothing on internal networks and does not ask; so a container may have ports on another one.
    network(&host, "in", "red", "--subnet 10.7.0.0/24 --internal").unwrap();
    serve(&host, "db", "--network in -p 8080:80").unwrap();
    assert_eq!(itself.fetch("127.0.0.1:8080"), None);
    let log = host.ciao_net().log().unwrap();
    let logged = |line: &str| line.contains("port 80 is not published by network");
    assert!(log.lines().any(logged), "the log does not mention the port: {log}");
    network(&host, "out", "red", "--subnet 10.8.0.0/24").unwrap();
    serve(&host, "web", "--network out -p 8081:80").unwrap();
    host.docker(&["network", "connect", "in", "web"]).unwrap();
    assert_eq!(itself.fetch("127.0.0.1:8081"), page("web"));
    refused(&host, "docker network connect nowhere web", &["make this one --internal instead"]);
    assert_eq!(itself.fetch("127.0.0.1:8081"), page("web"));
    assert_eq!(sql(&host, "SELECT DISTINCT host_port FROM port"), "8081");
}

#[test]
fn an_internal_container_has_no_egress_even_with_routes_of_its_own() {
    let (host, _, internet) = open("internal");
    network(&host, "out", "red", SUBNETS).unwrap();
    network(&host, "in", "red", "--subnet 10.6.0.0/24 --ipv6 --subnet fd00:6::/64 --internal").unwrap();
    let web = serve(&host, "web", "--network out --ip 10.5.0.2").unwrap();
    web.answer("[::]:9", "yes").unwrap();
    let db = serve(&host, "db", "--network in --cap-add NET_ADMIN").unwrap();
    assert!(!host.docker(&["exec", "db", "ip", "route"]).unwrap().contains("default"));
    // Nobody answers ARP for a gateway, but the bridge itself is in a namespace that routes.
    let bridge = sql(&host, "SELECT bridge FROM network WHERE egress = 'none'");
    let mac = host.sh(&format!("ip netns exec ciao-red cat /sys/class/net/{bridge}/address")).unwrap();
    let local = format!("ip -n ciao-red -6 -o address show {bridge} scope link | sed 's/.*inet6 //; s,/.*,,'");
    let local = host.sh(&local).unwrap();
    let route = format!(
        "ip route add default via 10.6.0.1; arp -s 10.6.0.1 {mac}; ip -6 route add default via {local} dev eth0"
    );
    host.docker(&["exec", "db", "sh", "-euc", &route]).unwrap();
    assert!(soon(|| db.pings(&format!("{local}%eth0"))), "the way to the bridge is open");
    // One way is enough for a leak: what is received counts, not what is answered.
    let received = || {
        let captures = [internet.wire("eth0").unwrap(), web.wire("eth0").unwrap()];
        for at in ["203.0.113.2:9", "[2001:db8::2]:9", "10.5.0.2:9"] {
            db.send_datagram(at, at).unwrap();
        }
        sleep(Duration::from_millis(300)); // for the discovery of neighbours
        web.send_datagram("203.0.113.2:9", "end").unwrap();
        captures.map(|capture| capture.received("end").unwrap().into_iter().collect::<Vec<_>>())
    };
    assert_eq!(received(), [["end"], ["end"]]);
    // They lead out, if only the rules let them.
    kill_with_guard(&host).unwrap();
    host.sh(&format!("ip netns exec ciao-red nft 'add element inet ciao nat {{ \"{bridge}\" }}'")).unwrap();
    // The discovery of neighbours may take longer on a busy machine.
    let all = [vec!["203.0.113.2:9", "[2001:db8::2]:9", "end"], vec!["10.5.0.2:9", "end"]];
    assert!(soon(|| received() == all), "{:?}", received());
}

#[test]
fn egress_docker_is_a_second_interface_on_docker_gwbridge() {
    let (host, itself, _) = open("gwbridge");
    // Docker takes docker_gwbridge's subnet after the first network's, and looks at the host's routes alone.
    for (name, subnet) in [("any", ""), ("given", "--subnet 10.5.0.0/24")] {
        network(&host, name, name, &format!("{subnet} -o egress=docker")).unwrap();
        let web = serve(&host, name, &format!("--network {name} -p 8080:80")).unwrap();
        assert_eq!(host.docker(&["exec", name, "ls", "/sys/class/net"]).unwrap(), "eth0\neth1\nlo");
        let routes = host.docker(&["exec", name, "ip", "route"]).unwrap();
        let to = |link: &str| routes.lines().find(|line| line.contains(&format!("dev {link} scope link"))).unwrap();
        let subnets = ["eth0", "eth1"].map(|link| to(link).split(' ').next().unwrap().parse::<Subnet>().unwrap());
        assert!(!subnets[0].overlaps(subnets[1]), "{routes}");
        assert_eq!(web.fetch("203.0.113.2:80"), page("internet"));
        assert!(soon(|| itself.fetch("127.0.0.1:8080") == page(name)), "Docker publishes the port itself");
        host.docker(&["rm", "-f", name]).unwrap();
        assert_eq!(sql(&host, "SELECT count(*) FROM port"), "0");
    }
}

#[test]
fn egress_gateway_uses_a_router_on_the_tenants_bridge() {
    let (host, itself, _) = open("router");
    host.add_namespace("router").unwrap();
    // A router on a bridge of the host's, with a world of its own behind it.
    host.sh("ip link add lan type bridge; ip link set lan up
        ip link add port type veth peer name lan0 netns router; ip link set port master lan up
        ip -n router address add 10.7.0.1/24 dev lan0; ip -n router link set lan0 up
        ip -n router link set lo up; ip -n router address add 198.51.100.1/32 dev lo
        echo router >/run/index.html; ip netns exec router busybox httpd -p 80 -h /run")
        .unwrap();
    network(&host, "app", "red", "--subnet 10.7.0.0/24 --gateway 10.7.0.1 -o host_bridge=lan").unwrap();
    let web = serve(&host, "web", "--network app").unwrap();
    assert_eq!(sql(&host, "SELECT egress, namespace FROM network"), "gateway|(host)");
    assert!(soon(|| web.fetch("198.51.100.1:80") == page("router")));
    assert_eq!(web.fetch("203.0.113.2:80"), None, "the router's world ends there");
    assert_eq!(Place::named(&host, "router").unwrap().fetch("10.7.0.2:80"), page("web"));
    assert_eq!(itself.fetch("10.7.0.2:80"), None, "the host itself is not on that bridge");
}

#[test]
fn an_uplink_has_no_address_of_a_subnet_of_the_hosts() {
    let host = Host::builder().name("pool").ciao_net_args(["--uplink-pool", "10.200.0.0/28"]).start().unwrap();
    // Another machine of the host's link would have the pool's second pair.
    host.sh("ip link add dmz type bridge; ip address add 10.200.0.1/29 dev dmz; ip link set dmz up").unwrap();
    let (host, _, _internet) = with_internet(host);
    network(&host, "red", "red", "--subnet 10.5.0.0/24").unwrap();
    let uplink = host.sh("ip -n ciao-red -4 -o address show up0 | sed 's/.*inet //; s, .*,,'").unwrap();
    assert_eq!(uplink, "10.200.0.9/31");
    let red = serve(&host, "red", "--network red").unwrap();
    assert_eq!(red.fetch("203.0.113.2:80"), page("internet"));
    for name in ["two", "three", "four"] {
        network(&host, name, name, "").unwrap();
    }
    let create = "docker network create -d ciao-net --ipam-driver ciao-ipam five";
    refused(
        &host,
        create,
        &["the uplink pool 10.200.0.0/28 is exhausted", "start ciao-net with another --uplink-pool"],
    );
}
