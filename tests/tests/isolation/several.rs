// SPDX-License-Identifier: Apache-2.0
//! A container on several networks of its tenant sends with each of its addresses by each of its links, and with no
//! other.

use ciao_tests::frames::{Station, udp, udp6};
use ciao_tests::lab::Host;
use ciao_tests::world::{Place, network, serve, soon};

use crate::scene::{END, everybody, mac_of_link, only_the_end, station};

/// A container's addresses on network `one`, and on network `two`.
const ADDRESSES: [&str; 4] = ["10.5.0.7", "[fd00:5::7]", "10.6.0.7", "[fd00:6::7]"];

fn answers(client: &Place, expected: [bool; 4]) -> bool {
    soon(|| ADDRESSES.map(|at| client.fetch(&format!("{at}:80")).as_deref() == Some("both")) == expected)
}

#[test]
fn a_container_on_two_networks_of_its_tenant_answers_at_both_addresses() {
    let host = Host::builder().name("several").start().unwrap();
    for (name, n) in [("one", 5), ("two", 6)] {
        network(&host, name, "red", &format!("--ipv6 --subnet 10.{n}.0.0/24 --subnet fd00:{n}::/64")).unwrap();
    }
    let client = serve(&host, "client", "--network one --ip 10.5.0.2 --ip6 fd00:5::2").unwrap();
    serve(&host, "both", "--network one --ip 10.5.0.7 --ip6 fd00:5::7").unwrap();
    host.docker(&["network", "connect", "--ip", "10.6.0.7", "--ip6", "fd00:6::7", "two", "both"]).unwrap();
    // It is asked by way of network two, and answers by its link on network one, which reaches the client directly.
    assert!(answers(&client, [true; 4]));
    host.docker(&["restart", "-t", "0", "both"]).unwrap();
    assert!(answers(&client, [true; 4]), "after a restart of the container");
    host.ciao_net().kill().unwrap();
    host.ciao_net().start().unwrap();
    assert!(answers(&client, [true; 4]), "after a restart of the daemon");
    // Its other link is gone, and with it the right to its addresses.
    host.docker(&["network", "disconnect", "two", "both"]).unwrap();
    assert!(answers(&client, [true, true, false, false]));
    assert!(soon(|| !host.sh("ip netns exec ciao-red nft list ruleset").unwrap().contains("10.6.0.7")));
    let both = Place::container(&host, "both").unwrap();
    // Docker 28 gives a restarted container its interfaces in any order, so this one may be eth1.
    let shown = host.docker(&["exec", "both", "ip", "-oneline", "address", "show", "to", "10.5.0.7"]).unwrap();
    let link = shown.split_whitespace().nth(1).unwrap();
    let me = station(mac_of_link(&host, "both", link), 7);
    let former = Station { v4: [10, 6, 0, 7].into(), v6: "fd00:6::7".parse().unwrap(), ..me };
    let (wire, capture) = (both.wire(link).unwrap(), client.wire("eth0").unwrap());
    let all6 = Station { mac: [0x33, 0x33, 0, 0, 0, 1], ..everybody() };
    let frames = [("former", udp(former, everybody(), (7, 7), b"")), ("former 6", udp6(former, all6, (7, 7), b""))];
    wire.send_named(frames.into_iter().chain([(END, udp(me, everybody(), (7, 7), b""))])).unwrap();
    assert_eq!(capture.received(END).unwrap(), only_the_end());
}
