// SPDX-License-Identifier: Apache-2.0
//! The host itself: its services, its link-local addresses, and what is published for it alone.

use std::net::Ipv6Addr;

use ciao_tests::frames::{Station, udp, udp6};
use ciao_tests::lab::Host;
use ciao_tests::world::{Place, kill_with_guard, mark, network, serve};

use crate::scene::{END, SUBNETS, host_with_container, link_local, mac_of, octets, only_the_end, station, uplink};

#[test]
fn no_container_reaches_the_hosts_own_services() {
    let (host, _, mallory) = host_with_container("services");
    host.sh("echo host >/run/index.html; busybox httpd -p 8888 -h /run").unwrap();
    Place::host(&host).unwrap().answer("203.0.113.1:8889", "host").unwrap();
    let link = uplink(&host, "red");
    let of_link = |family: &str| {
        host.sh(&format!("ip -{family} -o address show {link} scope global | sed 's/.*inet6* //; s,/.*,,'")).unwrap()
    };
    let link4 = host.sh(&format!("ip -4 -o address show {link} | sed 's/.*inet //; s,/.*,,'")).unwrap();
    let link6 = format!("[{}]", of_link("6"));
    let addresses = ["203.0.113.1", "172.17.0.1", &link4, "[2001:db8::1]", &link6];
    let reached = || {
        let web = addresses.map(|address| format!("{address}:8888"));
        let answers = mallory.fetch_each([&web[0], &web[1], &web[2], &web[3], &web[4]]);
        let bare = |address: &str| address.trim_matches(['[', ']']).to_owned();
        let pings: Vec<bool> = std::thread::scope(|scope| {
            let pings = addresses.map(|address| scope.spawn(|| mallory.pings(&bare(address))));
            pings.into_iter().map(|ping| ping.join().unwrap()).collect()
        });
        let datagram = mallory.ask("203.0.113.1:8889", "who").is_some();
        (answers.iter().flatten().count(), pings.into_iter().filter(|answered| *answered).count(), datagram)
    };
    assert_eq!(reached(), (0, 0, false));
    kill_with_guard(&host).unwrap();
    host.sh("nft flush chain inet ciao input").unwrap();
    assert_eq!(reached(), (5, 5, true), "without the rules everything answers");
}

#[test]
fn no_container_reaches_link_local_addresses_of_the_host() {
    let (host, _, mallory) = host_with_container("metadata");
    // The metadata service of a cloud, which only its machines are to ask.
    host.sh("ip -n inet address add 169.254.169.254/32 dev lo; ip route add 169.254.169.254 via 203.0.113.2").unwrap();
    assert!(Place::host(&host).unwrap().fetch("169.254.169.254:80").is_some());
    assert_eq!(mallory.fetch("169.254.169.254:80"), None);
    assert!(!mallory.pings("169.254.169.254"));

    // The host's end of the uplink has a link-local address too; its link is two hops away from the container's.
    let link = uplink(&host, "red");
    let local = host.sh(&format!("ip -6 -o address show {link} scope link | sed 's/.*inet6 //; s,/.*,,'")).unwrap();
    let global = host.sh(&format!("ip -6 -o address show {link} scope global | sed 's/.*inet6 //; s,/.*,,'")).unwrap();
    let me = station(mac_of(&host, "mallory"), 66);
    let bridge = host.sh("ip netns exec ciao-red sh -c 'cat /sys/class/net/br-*/address'").unwrap();
    let (capture, wire) = (Place::host(&host).unwrap().wire(&link).unwrap(), mallory.wire("eth0").unwrap());
    for (name, from, target) in [("own", me, &local), ("local", link_local(me), &local), (END, me, &global)] {
        let to = Station { mac: octets(&bridge), v6: target.parse().unwrap(), ..me };
        wire.send(&udp6(from, to, (7, 9), &mark(name))).unwrap();
    }
    assert_eq!(capture.received(END).unwrap(), only_the_end());
    // And who has taken over the tenant's namespace itself asks in vain.
    let tenant = Place::named(&host, "ciao-red").unwrap();
    let ping = format!("{local}%up0");
    assert!(!tenant.pings(&ping));
    kill_with_guard(&host).unwrap();
    host.sh("nft flush chain inet ciao input; nft flush chain inet ciao forward").unwrap();
    assert!(tenant.pings(&ping), "without the rules it answers");
    assert!(mallory.fetch("169.254.169.254:80").is_some(), "without the rules it answers");
}

#[test]
fn a_port_published_at_localhost_is_unreachable_from_outside() {
    let host = Host::builder().name("loopback").start().unwrap();
    let internet = Place::internet(&host).unwrap();
    network(&host, "app", "red", SUBNETS).unwrap();
    let victim = serve(&host, "victim", "--network app -p 127.0.0.1:5300:53/udp -p 5301:53/udp").unwrap();
    let capture = victim.wire("eth0").unwrap();
    // A machine on the host's own wire writes 127.0.0.1 onto a packet.
    let mac = octets(&host.sh("cat /sys/class/net/ext0/address").unwrap());
    let from = Station { mac: [2, 0, 0, 0, 0, 9], v4: [203, 0, 113, 2].into(), v6: Ipv6Addr::UNSPECIFIED };
    let wire = internet.wire("eth0").unwrap();
    for (name, address, port) in [("localhost", [127, 0, 0, 1], 5300), (END, [203, 0, 113, 1], 5301)] {
        let to = Station { mac, v4: address.into(), ..from };
        wire.send(&udp(from, to, (7, port), &mark(name))).unwrap();
    }
    assert_eq!(capture.received(END).unwrap(), only_the_end());
    let asked = Place::host(&host).unwrap();
    victim.answer("[::]:53", "pong").unwrap();
    assert_eq!(asked.ask("127.0.0.1:5300", "ping").as_deref(), Some("pong"), "the host itself does");
}
