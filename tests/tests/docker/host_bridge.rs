// SPDX-License-Identifier: Apache-2.0
//! A bridge of the host's own, which somebody else made: used where it is, and left as it was.

use crate::hosts::own;
use crate::scene::{LIVE, assert_nothing_left, interfaces, network, reaches, run, sql};

/// The bridge `lan` with the host's address on it, and a machine on it that has nothing to do with Docker.
const LAN: &str = "
    ip link add lan type bridge
    ip link set lan addrgenmode none
    ip address add 10.7.0.1/24 dev lan
    ip link set lan up
    ip link add port type veth peer name eth0 netns neighbour
    ip link set port master lan up
    ip -n neighbour address add 10.7.0.9/24 dev eth0
    ip -n neighbour link set eth0 up
    until ip link show lan | grep -q LOWER_UP; do sleep 0.02; done
";
/// The bridge, and the rules of the firewall that could name it.
const STATE: &str =
    "ip -o link show lan; ip -o address show lan; ls /sys/class/net/lan/brif; iptables -S; ip6tables -S";

#[test]
fn containers_on_an_existing_bridge_reach_each_other_and_the_lan() {
    let host = own("lan");
    host.add_namespace("neighbour").unwrap();
    host.sh(LAN).unwrap();
    assert!(host.sh("iptables -S FORWARD").unwrap().contains("-P FORWARD DROP"), "the engine's policy is the point");
    let before = host.sh(STATE).unwrap();

    network(&host, "app", &["--subnet", "10.7.0.0/24", "--gateway", "10.7.0.1", "--opt", "host_bridge=lan"]);
    run(&host, "web", &["--network", "app", "--ip", "10.7.0.2"]);
    run(&host, "db", &["--network", "app", "--ip", "10.7.0.3"]);
    for target in ["10.7.0.3", "10.7.0.9", "10.7.0.1", "db"] {
        assert!(reaches(&host, "web", target), "web reaches {target}");
    }
    assert_eq!(interfaces(&host, "web"), ["eth0", "lo"]);
    assert_eq!(
        sql(&host, "SELECT namespace, isolation, egress FROM network"),
        "(host)|none: the host's bridge|gateway"
    );

    // dockerd rewrites its chains when it comes back.
    host.docker(&["stop", "db"]).unwrap();
    host.dockerd().stop().unwrap();
    host.dockerd().start().unwrap();
    host.sh("docker start web db").unwrap();
    assert!(reaches(&host, "web", "10.7.0.3"), "after a restart of dockerd");

    host.sh("docker rm -f web db; docker network rm app").unwrap();
    assert_eq!(host.sh(STATE).unwrap(), before);
    assert_nothing_left(&host, &["lan", "port"]);
}

#[test]
fn a_launchers_vnic_goes_onto_an_existing_bridge() {
    let host = own("lan-vnic");
    host.add_namespace("neighbour").unwrap();
    host.sh(LAN).unwrap();
    for (instance, last) in [("web", 2), ("db", 3)] {
        let place = format!("--tenant red --instance {instance} --subnet 10.7.0.0/24 --host-bridge lan");
        let address = format!("--ip 10.7.0.{last} --mac 02:00:0a:07:00:{last:02x}");
        host.sh(&format!("ciao-net launch {place} {address} {} sh -c '{}'", LIVE[0], LIVE[3])).unwrap();
    }
    for target in ["10.7.0.3", "10.7.0.9", "10.7.0.1"] {
        assert!(reaches(&host, "red.web", target), "web reaches {target}");
    }
    host.sh("ciao-net terminate web; ciao-net terminate db").unwrap();
    host.sh("ip -n neighbour link show eth0; ip address show lan | grep 10.7.0.1/24; ls /sys/class/net/lan/brif/port")
        .unwrap();
    assert_nothing_left(&host, &["lan", "port"]);
}
