// SPDX-License-Identifier: Apache-2.0
//! Two tenants with the same subnets, whose containers have the same addresses: both get out, and both are reached.

use std::collections::BTreeSet;

use ciao_tests::lab::Host;
use ciao_tests::world::{Place, network, serve, soon};

use crate::scene::{ADDRESS, SUBNETS, open, page, serve_peer_address};

/// Where the internet returns the client's address, over TCP and UDP alike.
const WHO: [&str; 2] = ["203.0.113.2:81", "[2001:db8::2]:81"];
/// The host's own addresses, which is all that the internet sees.
const HOST: [&str; 2] = ["203.0.113.1", "[2001:db8::1]"];

/// Tenant and container of that name, which publishes port 80 and port 53/udp.
fn publish(host: &Host, tenant: &'static str, web: u16, datagrams: u16) -> Place {
    network(host, tenant, tenant, SUBNETS).unwrap();
    let ports = format!("-p {web}:80 -p {datagrams}:53/udp");
    let container = serve(host, tenant, &format!("--network {tenant} {ADDRESS} {ports}")).unwrap();
    container.answer("[::]:53", tenant).unwrap();
    container
}

#[test]
fn two_tenants_with_the_same_addresses_have_egress_and_published_ports_at_once() {
    let (host, itself, internet) = open("both");
    WHO.iter().for_each(|at| serve_peer_address(&internet, at));
    let tenants = [("red", 8080, 5300), ("blue", 8081, 5301)];
    let containers = tenants.map(|(tenant, web, datagrams)| publish(&host, tenant, web, datagrams));

    println!("from      to                    protocol  the internet sees");
    let mut seen = Vec::new();
    for (container, (tenant, ..)) in containers.iter().zip(tenants) {
        for (to, from) in WHO.iter().zip(HOST) {
            assert!(soon(|| container.fetch(&to.replace(":81", ":80")) == page("internet")), "{tenant}: {to}");
            let tcp = container.fetch(to).unwrap();
            // Both containers send from the same address and the same port.
            let udp = container.ask_from(4000, to, "who").unwrap();
            for (protocol, who) in [("TCP", tcp), ("UDP", udp)] {
                println!("{tenant:<9} {to:<21} {protocol:<9} {who}");
                assert!(who.starts_with(&format!("{from}:")), "{tenant} comes as {who}");
                seen.push(format!("{protocol} {who}"));
            }
        }
    }
    assert_eq!(BTreeSet::from_iter(&seen).len(), 8, "each from a port of its own: {seen:?}");

    println!("from      at                    protocol  answers");
    let from_outside = HOST.map(|address| ("internet", &internet, address));
    let from_the_host = ["127.0.0.1", HOST[0], HOST[1]].map(|address| ("host", &itself, address));
    for (name, place, address) in from_outside.into_iter().chain(from_the_host) {
        for (tenant, web, datagrams) in tenants {
            let (web, datagrams) = (format!("{address}:{web}"), format!("{address}:{datagrams}"));
            assert!(soon(|| place.fetch(&web) == page(tenant)), "{name} at {web}");
            let answers = [("TCP", &web, place.fetch(&web)), ("UDP", &datagrams, place.ask(&datagrams, "who"))];
            for (protocol, at, answer) in answers {
                println!("{name:<9} {at:<21} {protocol:<9} {}", answer.as_deref().unwrap_or("-"));
                assert_eq!(answer, page(tenant), "{name} at {at}");
            }
        }
    }

    // The neighbour gets in as everybody does, through the host's address, and by no shorter way.
    let [red, blue] = &containers;
    for at in HOST.map(|address| format!("{address}:8080")) {
        assert_eq!(blue.fetch(&at), page("red"));
        assert_eq!(red.fetch(&at), page("red"), "its own published port");
    }
    assert_eq!(blue.fetch("10.5.0.2:80"), page("blue"), "the same address is its own");
    for address in uplinks(&host).lines() {
        let [at_own, at_published] = [80, 8080].map(|port| format!("{address}:{port}"));
        assert_eq!(blue.fetch_each([&at_own, &at_published]), [None, None], "an uplink's address is no way in");
    }
    // Nobody outside can begin.
    host.sh("ip -n inet route add 10.5.0.0/24 via 203.0.113.1; ip -n inet -6 route add fd00:5::/64 via 2001:db8::1")
        .unwrap();
    assert_eq!(internet.fetch_each(["10.5.0.2:80", "[fd00:5::2]:80"]), [None, None]);
}

/// The tenants' own addresses between them and the host.
fn uplinks(host: &Host) -> String {
    let list = "for name in ciao-red ciao-blue; do ip -n $name -4 -o address show up0; done";
    host.sh(&format!("{list} | sed 's/.*inet //; s,/.*,,'")).unwrap()
}

#[test]
fn subnets_of_one_tenant_are_routed_and_those_of_another_are_not() {
    let (host, ..) = open("routed");
    let mut places = Vec::new();
    for (name, tenant, number) in [("one", "red", 5), ("two", "red", 6), ("other", "blue", 7)] {
        let subnets = format!("--subnet 10.{number}.0.0/24 --ipv6 --subnet fd00:{number}::/64");
        network(&host, name, tenant, &subnets).unwrap();
        let addresses = format!("--ip 10.{number}.0.2 --ip6 fd00:{number}::2");
        places.push(serve(&host, name, &format!("--network {name} {addresses}")).unwrap());
    }
    let [one, two, other] = &places[..] else { panic!("three containers") };
    assert!(soon(|| one.fetch_each(["10.6.0.2:80", "[fd00:6::2]:80"]) == [page("two"), page("two")]));
    assert!(soon(|| two.fetch_each(["10.5.0.2:80", "[fd00:5::2]:80"]) == [page("one"), page("one")]));
    assert_eq!(one.fetch_each(["10.7.0.2:80", "[fd00:7::2]:80"]), [None, None]);
    assert_eq!(other.fetch_each(["10.5.0.2:80", "[fd00:6::2]:80"]), [None, None]);
}
