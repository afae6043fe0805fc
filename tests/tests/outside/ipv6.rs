// SPDX-License-Identifier: Apache-2.0
//! How IPv6 leaves: with the host's address (`egress6=nat`, the default), with its own, or not at all.

use std::thread::sleep;
use std::time::Duration;

use ciao_tests::lab::Host;
use ciao_tests::world::{Place, network, serve, soon};

use crate::scene::{open, page, serve_peer_address};

const WHO: &str = "[2001:db8::2]:81";

/// A tenant's network with an IPv6 subnet that the world routes to the host, and its container, which publishes port
/// 80.
fn container(host: &Host, egress6: &str, number: u8) -> Place {
    let subnets = format!("--subnet 10.{number}.0.0/24 --ipv6 --subnet 2001:db8:{number}::/64");
    let name = format!("six-{egress6}");
    network(host, &name, &name, &format!("{subnets} -o egress6={egress6}")).unwrap();
    host.sh(&format!("ip -n inet -6 route add 2001:db8:{number}::/64 via 2001:db8::1")).unwrap();
    let addresses = format!("--ip 10.{number}.0.2 --ip6 2001:db8:{number}::2");
    serve(host, &name, &format!("--network {name} {addresses} -p 808{number}:80")).unwrap()
}

#[test]
fn ipv6_egress_follows_the_network_s_option() {
    let (host, itself, internet) = open("six");
    serve_peer_address(&internet, WHO);
    println!("egress6  the internet sees");
    for (egress6, number, expected) in
        [("nat", 5, Some("[2001:db8::1]:")), ("route", 6, Some("[2001:db8:6::2]:")), ("none", 7, None)]
    {
        let place = container(&host, egress6, number);
        assert!(soon(|| place.fetch("203.0.113.2:80") == page("internet")), "IPv4 leaves in any case");
        let seen = || place.fetch(WHO);
        println!(
            "{egress6:<8} {}",
            if expected.is_some() && soon(|| seen().is_some()) { seen().unwrap() } else { "-".into() }
        );
        match expected {
            Some(from) => assert!(seen().unwrap().starts_with(from), "{egress6}"),
            None => {
                let capture = internet.wire("eth0").unwrap();
                place.send_datagram("[2001:db8::2]:9", "out").unwrap();
                sleep(Duration::from_millis(300)); // for the discovery of neighbours
                place.send_datagram("203.0.113.2:9", "end").unwrap();
                assert_eq!(capture.received("end").unwrap().into_iter().collect::<Vec<_>>(), ["end"]);
            }
        }
        // Nobody comes in but by a published port, whatever is routed.
        let direct = format!("[2001:db8:{number}::2]:80");
        assert_eq!([internet.fetch(&direct), itself.fetch(&direct)], [None, None], "{egress6}");
        assert_eq!(internet.fetch(&format!("203.0.113.1:808{number}")), page(&format!("six-{egress6}")));
        let published = internet.fetch(&format!("[2001:db8::1]:808{number}"));
        assert_eq!(published, page(&format!("six-{egress6}")), "what is published is answered");
    }
    assert!(host.sh("ip -6 route").unwrap().contains("2001:db8:6::/64"));
    for name in ["nat", "route", "none"] {
        host.sh(&format!("docker rm -f six-{name}; docker network rm six-{name}")).unwrap();
    }
    assert!(
        soon(|| !host.sh("ip -6 route; nft list ruleset").unwrap().contains("2001:db8:6::/64")),
        "no route is left"
    );
}
