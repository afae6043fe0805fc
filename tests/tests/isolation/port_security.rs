// SPDX-License-Identifier: Apache-2.0
//! A container sends with its own addresses, and with those that somebody allowed it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread::sleep;
use std::time::Duration;

use ciao_tests::frames::{Station, arp, icmp6, udp, udp6};
use ciao_tests::lab::Host;
use ciao_tests::world::{Place, mark, network, serve, soon};
use etherparse::ArpOperation;

use crate::scene::{END, NOBODY, SUBNETS, Scene, everybody, mac_of, only_the_end, show, show_head, station};
use crate::spoofing::{names, neighbour_advertisement, spoofed_frames};

#[test]
fn no_container_spoofs_its_addresses_and_without_port_security_every_spoofed_frame_arrives() {
    const TIMES: usize = 5; // as many frames as wait in a socket unheard
    let count = |name: &str, options: &str| {
        let scene = Scene::open(name, options);
        let spoofed = spoofed_frames(&scene);
        (names(&spoofed), scene.count(spoofed, TIMES))
    };
    let (spoofed, secured) = count("filtered", "");
    let (_, open) = count("open", "-o port_security=off");
    show_head("from a container, counted at its neighbour", "off");
    for name in spoofed.iter().filter(|name| **name != END) {
        let of = |counted: &BTreeMap<String, usize>| counted.get(name).copied().unwrap_or_default();
        show(name, (TIMES, of(&secured), of(&open)));
    }
    assert_eq!(secured, BTreeMap::from([(END.to_owned(), 1)]));
    let expected = spoofed.into_iter().map(|name| if name == END { (name, 1) } else { (name, TIMES) });
    assert_eq!(open, expected.collect(), "the test sees what is not stopped");
}

#[test]
fn what_an_honest_container_sends_arrives() {
    let scene = Scene::open("honest", "");
    let me = scene.from;
    let unnamed = Station { v4: Ipv4Addr::UNSPECIFIED, v6: Ipv6Addr::UNSPECIFIED, ..me };
    let asked = Station { mac: everybody().mac, ..me };
    let frames = vec![
        ("ARP: is my address in use?", arp(me.mac, ArpOperation::REQUEST, unnamed, asked)),
        ("ARP: I have my address", arp(me.mac, ArpOperation::REPLY, me, everybody())),
        ("ND: is my address in use?", icmp6(unnamed, asked, 135, [0; 4], &me.v6.octets())),
        ("ND: I have my address", neighbour_advertisement(me, scene.to, me.v6)),
    ];
    let expected = names(&frames);
    assert_eq!(scene.attack(frames), expected);
    for ping in ["ping -c 2 -s 4000 10.5.0.2", "ping -6 -c 2 -s 4000 fd00:5::2"] {
        let shown = scene.host.sh(&format!("docker exec mallory {ping}")).unwrap();
        assert!(shown.contains("2 packets transmitted, 2 packets received"), "{shown}");
    }
}

#[test]
fn no_container_spoofs_its_addresses_towards_the_internet() {
    let received = |name: &str, options: &str| {
        let scene = Scene::open(name, options);
        let internet = Place::internet(&scene.host).unwrap();
        let get = ["203.0.113.2:80", "[2001:db8::2]:80"];
        assert!(soon(|| scene.mallory.fetch_each(get).iter().all(Option::is_some)), "the host has a default route now");
        let capture = internet.wire("eth0").unwrap();
        let wire = scene.mallory.wire("eth0").unwrap();
        let target = Station { v4: [203, 0, 113, 2].into(), v6: "2001:db8::2".parse().unwrap(), ..scene.gateway };
        let as_neighbour = Station { mac: scene.from.mac, ..scene.neighbour };
        let foreign = Station { v4: [198, 51, 100, 9].into(), ..as_neighbour };
        // What is routed keeps its payload and nothing behind it.
        for (name, from) in [("neighbour", as_neighbour), ("foreign", foreign), (END, scene.from)] {
            let name6 = format!("{name} IPv6");
            wire.send(&udp6(from, target, (7, 9), &mark(&name6))).unwrap();
            sleep(Duration::from_millis(20)); // the first one waits for neighbour discovery
            wire.send(&udp(from, target, (7, 9), &mark(name))).unwrap();
        }
        capture.received(END).unwrap()
    };
    let end = [END.to_owned(), format!("{END} IPv6")];
    assert_eq!(received("honest", ""), BTreeSet::from(end.clone()));
    let spoofed = ["neighbour", "neighbour IPv6", "foreign", "foreign IPv6"].map(str::to_owned);
    assert_eq!(received("spoofing", "-o port_security=off"), BTreeSet::from_iter(end.into_iter().chain(spoofed)));
}

#[test]
fn an_allowed_address_goes_through_and_no_other() {
    let host = Host::builder().name("allowed").start().unwrap();
    let scene = {
        let vnic = "--tenant red --instance vip --subnet 10.5.0.0/24 --ip 10.5.0.66 --mac 02:00:0a:05:00:42";
        let vnic = format!("ciao-net vnic create {vnic} --allow 10.5.0.100 --allow fd00:5::100 --bridge br-app");
        host.sh(&vnic).unwrap();
        network(&host, "app", "red", &format!("{SUBNETS} -o bridge=br-app")).unwrap();
        let victim = serve(&host, "victim", "--network app --ip 10.5.0.2 --ip6 fd00:5::2").unwrap();
        let mallory = serve(&host, "mallory", "--network app --ip 10.5.0.66 --cap-add NET_ADMIN").unwrap();
        let with_option = "name=app,driver-opt=allowed_addresses=10.5.0.101";
        serve(&host, "docker", &format!("--network {with_option} --cap-add NET_ADMIN")).unwrap();
        let (from, to) = (station(mac_of(&host, "mallory"), 66), station(mac_of(&host, "victim"), 2));
        Scene { host, mallory, victim, from, to, gateway: station(NOBODY, 1), neighbour: station(NOBODY, 3) }
    };
    let (me, to) = (scene.from, scene.to);
    let at = |last: u8| Station { v4: [10, 5, 0, last].into(), v6: format!("fd00:5::{last}").parse().unwrap(), ..me };
    let received = scene.attack(vec![
        ("100", udp(at(100), to, (7, 7), b"")),
        ("100 IPv6", udp6(at(100), to, (7, 7), b"")),
        ("100 ARP", arp(me.mac, ArpOperation::REPLY, at(100), everybody())),
        ("100 ND", neighbour_advertisement(at(100), to, at(100).v6)),
        ("101", udp(at(101), to, (7, 7), b"")),
        ("102", udp(at(102), to, (7, 7), b"")),
        ("102 ARP", arp(me.mac, ArpOperation::REPLY, at(102), everybody())),
        ("102 ND", neighbour_advertisement(at(100), to, at(102).v6)),
    ]);
    assert_eq!(received, BTreeSet::from(["100", "100 IPv6", "100 ARP", "100 ND", END].map(str::to_owned)));
    // And as it is used.
    let docker = |args: &[&str]| scene.host.docker(args).unwrap();
    for (container, address) in [("mallory", "10.5.0.100"), ("docker", "10.5.0.101")] {
        docker(&["exec", container, "ip", "address", "add", &format!("{address}/24"), "dev", "eth0"]);
        assert!(soon(|| scene.victim.fetch(&format!("{address}:80")).as_deref() == Some(container)), "{address}");
    }
}

#[test]
fn a_virtual_address_moves_from_one_container_to_another() {
    let host = Host::builder().name("virtual").start().unwrap();
    network(&host, "app", "red", SUBNETS).unwrap();
    let client = serve(&host, "client", "--network app").unwrap();
    let allowed = "--network name=app,driver-opt=allowed_addresses=10.5.0.100 --cap-add NET_ADMIN";
    for name in ["one", "two"] {
        serve(&host, name, allowed).unwrap();
    }
    for (from, to) in [("", "one"), ("one", "two"), ("two", "one")] {
        if !from.is_empty() {
            host.docker(&["exec", from, "ip", "address", "del", "10.5.0.100/32", "dev", "eth0"]).unwrap();
        }
        // As VRRP does: the new one says so to everybody.
        let script = "ip address add 10.5.0.100/32 dev eth0; arping -U -c 1 -I eth0 10.5.0.100";
        host.docker(&["exec", to, "sh", "-c", script]).unwrap();
        assert!(soon(|| client.fetch("10.5.0.100:80").as_deref() == Some(to)), "from {from} to {to}");
    }
    // Who is not allowed it takes it in vain.
    serve(&host, "thief", "--network app --cap-add NET_ADMIN").unwrap();
    host.docker(&["exec", "one", "ip", "address", "del", "10.5.0.100/32", "dev", "eth0"]).unwrap();
    let script = "ip address add 10.5.0.100/32 dev eth0; arping -U -c 1 -I eth0 10.5.0.100";
    host.docker(&["exec", "thief", "sh", "-c", script]).unwrap();
    assert_eq!(client.fetch("10.5.0.100:80"), None);
}

#[test]
fn deleted_rules_of_a_tenant_s_namespace_are_restored() {
    let scene = Scene::open("deleted", "");
    for table in ["bridge ciao", "inet ciao"] {
        scene.host.ciao_net().kill().unwrap(); // which would restore it within a second
        scene.host.sh(&format!("ip netns exec ciao-red nft delete table {table}")).unwrap();
        if table == "bridge ciao" {
            let spoofed = spoofed_frames(&scene);
            let expected = names(&spoofed);
            assert_eq!(scene.attack(spoofed), expected, "without the table nothing stops them");
        }
        scene.host.ciao_net().start().unwrap();
        assert_eq!(scene.attack(spoofed_frames(&scene)), only_the_end(), "after table {table} was deleted");
    }
}
