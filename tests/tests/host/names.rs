// SPDX-License-Identifier: Apache-2.0
//! Names: containers ask the host's resolvers, wherever these are, and reach nothing else there.

use std::net::UdpSocket;

use ciao_tests::lab::Host;
use ciao_tests::world::{Place, kill_with_guard, network, serve, soon};

use crate::scene::{SUBNETS, page};

/// What every name is, from every resolver here.
const ADDRESS: [u8; 4] = [192, 0, 2, 80];

/// A resolver at an address of a place (RFC 1035), until the test ends: any name has [`ADDRESS`], and no IPv6 address.
fn resolver(place: &Place, at: &str) {
    let socket = place.within(|| UdpSocket::bind(at)).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let _gone = socket.send_to(&answer(&question[..length]), from);
        }
    });
}

/// The answer to a question, which is repeated in it.
fn answer(question: &[u8]) -> Vec<u8> {
    let Some(name) = question.get(12..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) else {
        return Vec::new();
    };
    let Some(asked) = question.get(12..12 + name + 5) else { return Vec::new() };
    let is_v4 = asked[name + 1..name + 3] == [0, 1];
    let header = [&question[..2], &[0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]].concat();
    let record = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4][..], &ADDRESS].concat();
    [header.as_slice(), asked, if is_v4 { record.as_slice() } else { &[] }].concat()
}

/// The host with the resolver of a cloud behind its router, which is also the metadata service.
fn cloud(host: &Host) -> Place {
    let internet = Place::internet(host).unwrap();
    host.sh(
        "ip -n inet address add 169.254.169.254/32 dev lo; ip route add 169.254.169.254 via 203.0.113.2
        mkdir -p /run/tcp; echo names >/run/tcp/index.html; ip netns exec inet busybox httpd -p 169.254.169.254:53 -h /run/tcp",
    )
    .unwrap();
    resolver(&internet, "169.254.169.254:53");
    internet
}

fn set(host: &Host, file: &str, servers: &str) {
    let lines: String = servers.split(' ').map(|server| format!("nameserver {server}\\n")).collect();
    host.sh(&format!("mkdir -p $(dirname {file}); printf '{lines}' >{file}")).unwrap();
}

/// Whether a container's own resolver, which is the engine's, finds a name.
fn resolves(host: &Host, container: &str) -> bool {
    let found = host.try_sh(&format!("docker exec {container} nslookup www.example.test")).unwrap();
    found.stdout.contains("192.0.2.80")
}

/// Which of two resolvers a container reaches itself.
fn reached(container: &Place, resolvers: [&str; 2]) -> [bool; 2] {
    // A question without a name is answered by nothing, so that one with a name is asked.
    let question = "\0\u{1}\u{1}\0\0\u{1}\0\0\0\0\0\0\u{1}x\0\0\u{1}\0\u{1}";
    resolvers.map(|at| container.ask(&format!("{at}:53"), question).is_some())
}

#[test]
fn containers_get_names_from_a_link_local_resolver_and_nothing_else_of_it() {
    let host = Host::builder().name("names").start().unwrap();
    let _internet = cloud(&host);
    set(&host, "/etc/resolv.conf", "169.254.169.254");
    network(&host, "red", "red", SUBNETS).unwrap();
    let red = serve(&host, "red", "--network red").unwrap();
    assert!(soon(|| resolves(&host, "red")), "{}", host.sh("nft list table inet ciao").unwrap());
    // Newer engines ask for what --dns names from the container.
    serve(&host, "dns", "--network red --dns 169.254.169.254").unwrap();
    assert!(soon(|| resolves(&host, "dns")));
    assert_eq!(
        red.fetch_each(["169.254.169.254:53", "169.254.169.254:80"]),
        [page("names"), None],
        "TCP, and metadata"
    );
    assert!(!red.pings("169.254.169.254"));
    assert_eq!(red.ask("169.254.169.254:54", "x"), None);
    kill_with_guard(&host).unwrap();
    host.sh("nft flush chain inet ciao resolvers").unwrap();
    assert_eq!(red.fetch("169.254.169.254:53"), None, "it is that rule");
    host.sh("nft flush chain inet ciao forward").unwrap();
    assert_eq!(red.fetch("169.254.169.254:80"), page("internet"), "without the rules metadata answers");
}

#[test]
fn a_resolver_on_the_host_itself_answers_and_changes_are_followed() {
    let host = Host::builder().name("own-names").ciao_net_args(["--resolver", "2001:db8::1"]).start().unwrap();
    let _internet = cloud(&host);
    let itself = Place::host(&host).unwrap();
    let resolvers = ["169.254.169.254", "203.0.113.1"];
    ["203.0.113.1:53", "203.0.113.1:54", "[2001:db8::1]:53"].iter().for_each(|at| resolver(&itself, at));
    set(&host, "/etc/resolv.conf", "203.0.113.1");
    network(&host, "red", "red", SUBNETS).unwrap();
    let red = serve(&host, "red", "--network red --dns 203.0.113.1").unwrap();
    assert!(soon(|| resolves(&host, "red")));
    assert_eq!(reached(&red, resolvers), [false, true]);
    assert!(soon(|| reached(&red, ["[2001:db8::1]", "127.0.0.1"]) == [true, false]), "--resolver");
    assert_eq!(red.fetch_each(["203.0.113.1:54", "203.0.113.1:22"]), [None, None]);
    assert!(!red.pings("203.0.113.1"));
    // The file is another, within seconds; and behind systemd-resolved's stub dockerd reads the one that it keeps.
    set(&host, "/etc/resolv.conf", "169.254.169.254 203.0.113.7");
    assert!(soon(|| reached(&red, resolvers) == [true, false]));
    set(&host, "/run/systemd/resolve/resolv.conf", "203.0.113.1");
    set(&host, "/etc/resolv.conf", "127.0.0.53");
    assert!(soon(|| reached(&red, resolvers) == [false, true]));
    // The guard has the same: what it drops would not come.
    let listed = host.sh("nft list set inet ciao_guard resolvers4").unwrap();
    assert!(listed.contains("203.0.113.1") && !listed.contains("169.254"), "{listed}");
    // It survives a flush, and a restart.
    host.sh("nft flush ruleset").unwrap();
    assert!(soon(|| reached(&red, resolvers) == [false, true]));
    host.ciao_net().stop().unwrap();
    host.ciao_net().start().unwrap();
    assert_eq!(reached(&red, resolvers), [false, true]);
}
