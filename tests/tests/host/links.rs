// SPDX-License-Identifier: Apache-2.0
//! By which of the host's links tenants leave it: those that lead out, and not those of its own containers and
//! machines.

use std::net::UdpSocket;
use std::time::Duration;

use ciao_tests::frames::{Station, udp};
use ciao_tests::lab::Host;
use ciao_tests::world::{Place, kill_with_guard, network, serve, soon};

use crate::scene::{SUBNETS, open, page};

/// Links of each kind, and whether they lead out of the host. The number is a byte of what is behind them.
const LINKS: [(&str, &str, bool); 10] = [
    ("a routed veth, as Calico's", "ip link add w1 type veth peer name w1p; ip link set w1p up", false),
    (
        "a bridge of containers",
        "ip link add w2 type bridge; ip link add w2v type veth peer name w2p; ip link set w2v master w2 up; ip link set w2p up",
        false,
    ),
    (
        "a bridge of virtual machines",
        "ip link add w3 type bridge; ip tuntap add w3t mode tap; ip link set w3t master w3 up",
        false,
    ),
    ("a routed tap", "ip tuntap add w4 mode tap", false),
    (
        "a bridge with a tunnel",
        "ip link add w5 type bridge; ip link add w5v type vxlan id 5 dstport 4790; ip link set w5v master w5 up",
        true,
    ),
    ("a VPN's tun", "ip tuntap add w6 mode tun", true),
    ("another network card (macvlan)", "ip link add w7 link ext0 type macvlan mode bridge", true),
    ("a VXLAN with an address", "ip link add w8 type vxlan id 8 dstport 4791", true),
    ("a macvlan on the bridge of virtual machines", "ip link add w9 link w3 type macvlan mode bridge", false),
    ("a macvlan on the bridge with a tunnel", "ip link add w10 link w5 type macvlan mode bridge", true),
];

const SENT: usize = 10;

/// How many of a container's datagrams leave by each link, whatever is there to receive them.
fn left(host: &Host, container: &Place) -> Vec<usize> {
    let rules: String = (1..=LINKS.len()).map(|n| format!("oifname w{n} ip daddr 10.77.{n}.9 counter\n")).collect();
    let chain = "type filter hook postrouting priority 0;";
    let table = format!("table ip probe {{\nchain out {{\n{chain}\n{rules}}}\n}}");
    host.sh(&format!("nft delete table ip probe 2>/dev/null || true; nft -f - <<'END'\n{table}\nEND")).unwrap();
    let socket = container.within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    for number in 1..=LINKS.len() {
        for _ in 0..SENT {
            socket.send_to(b"x", format!("10.77.{number}.9:9")).unwrap();
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    let listed = host.sh("nft list chain ip probe out").unwrap();
    let counted = listed.lines().filter_map(|line| line.split_once("packets ")?.1.split(' ').next()?.parse().ok());
    counted.collect()
}

#[test]
fn tenants_leave_the_host_by_its_uplinks_only() {
    let scene = open("links");
    let host = &scene.host;
    let red = scene.publish("red", "");
    assert!(soon(|| red.fetch("203.0.113.2:80") == page("internet")), "a veth with the default route leads out");
    for (number, (_, make, _)) in (1..).zip(LINKS) {
        host.sh(&format!("{make}; ip link set w{number} up; ip route add 10.77.{number}.0/24 dev w{number}")).unwrap();
    }
    let expected: Vec<_> = LINKS.iter().map(|(_, _, leads_out)| if *leads_out { SENT } else { 0 }).collect();
    // A bridge that leads out is seen within seconds; what is closed is so at once.
    assert!(soon(|| left(host, &red) == expected), "{:?}", left(host, &red));
    kill_with_guard(host).unwrap();
    host.sh("nft flush chain inet ciao forward").unwrap();
    let open = left(host, &red);
    println!("{:<58} sent arrived without the host's rules", "from a tenant's container, by a link of the host");
    for ((name, ..), (left, open)) in LINKS.iter().zip(expected.iter().zip(&open)) {
        println!("{name:<58} {SENT:>4} {left:>7} {open:>6}");
    }
    assert_eq!(open, [SENT; LINKS.len()]);
}

#[test]
fn a_routed_container_that_is_not_ciaos_is_reached_where_egress_allow_has_it() {
    let scene = open("routed");
    let host = &scene.host;
    host.sh("ip netns add pod; ip link add cali0 type veth peer name eth0 netns pod; ip link set cali0 up
        ip -n pod address add 192.168.77.2/32 dev eth0; ip -n pod link set eth0 up; ip -n pod link set lo up
        ip address add 169.254.1.1/32 dev cali0; ip route add 192.168.77.2 dev cali0
        ip -n pod route add 169.254.1.1 dev eth0; ip -n pod route add default via 169.254.1.1
        mkdir /run/pod; echo pod >/run/pod/index.html; ip netns exec pod busybox httpd -p 80 -h /run/pod")
        .unwrap();
    assert_eq!(scene.itself.fetch("192.168.77.2:80"), page("pod"));
    let red = scene.publish("red", "");
    network(host, "blue", "blue", &format!("{SUBNETS} -o egress_allow=192.168.77.0/24")).unwrap();
    let blue = serve(host, "blue", "--network blue").unwrap();
    assert!(soon(|| blue.fetch("192.168.77.2:80") == page("pod")));
    assert_eq!(red.fetch("192.168.77.2:80"), None);
    kill_with_guard(host).unwrap();
    host.sh("nft flush chain inet ciao forward").unwrap();
    assert_eq!(red.fetch("192.168.77.2:80"), page("pod"), "without the rules it answers");
}

#[test]
fn what_others_do_with_127_0_0_0_8_goes_on() {
    let scene = open("localnet");
    let host = &scene.host;
    scene.publish("red", "");
    // A machine beside the host sends to 127.0.0.1, and the host takes that on this link.
    host.sh("echo 1 >/proc/sys/net/ipv4/conf/lan0/route_localnet").unwrap();
    let socket = scene.itself.within(|| UdpSocket::bind("127.0.0.1:7777")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mac = host.sh("cat /sys/class/net/lan0/address").unwrap();
    let octets: Vec<u8> = mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    let v6 = std::net::Ipv6Addr::UNSPECIFIED;
    let to = Station { mac: octets.try_into().unwrap(), v4: [127, 0, 0, 1].into(), v6 };
    let from = Station { mac: [2, 0, 0, 0, 0, 9], v4: [198, 51, 100, 2].into(), v6 };
    scene.lan.wire("eth0").unwrap().send(&udp(from, to, (7, 7777), b"theirs")).unwrap();
    let mut text = [0; 16];
    let length = socket.recv(&mut text).unwrap();
    assert_eq!(&text[..length], b"theirs");
    // And a port that is published to the LAN by somebody's rule of their own.
    host.sh("iptables -t nat -I PREROUTING -i lan0 -p tcp --dport 9000 -j DNAT --to-destination 127.0.0.1:9001
        mkdir /run/theirs; echo theirs >/run/theirs/index.html; busybox httpd -p 127.0.0.1:9001 -h /run/theirs")
        .unwrap();
    assert_eq!(scene.lan.fetch("198.51.100.1:9000"), page("theirs"));
}
