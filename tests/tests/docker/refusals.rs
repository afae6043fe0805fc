// SPDX-License-Identifier: Apache-2.0
//! What a user may get wrong, and what he reads then. A refusal changes nothing: each scenario ends as it began.

use ciao_tests::lab::Host;

use crate::hosts::shared;
use crate::scene::{assert_nothing_left, network, refused, run, sql};

const CREATE: &str = "docker network create -d ciao-net --ipam-driver ciao-ipam";
const VNIC: &str = "ciao-net vnic create --tenant red --instance web --subnet 10.5.0.0/24 --ip 10.5.0.7";

/// What an administrator sees of records and links.
fn everything(host: &Host) -> String {
    let lease =
        "(SELECT tenant, subnet, address, state, instance, endpoint, network FROM lease ORDER BY subnet, address)";
    let views = ["pool", lease, "network", "endpoint", "vnic"];
    let rows = views.map(|view| sql(host, &format!("SELECT * FROM {view}")));
    rows.join("\n--\n") + &host.sh("ip netns list | cut -d' ' -f1; ls /sys/class/net").unwrap()
}

/// Comes back to what was there before: links are deleted in the background.
fn settles(host: &Host, before: &str, after: &str) {
    let mut tries = 0;
    while everything(host) != before && tries < 20 {
        tries += 1;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(everything(host), before, "after {after}");
}

#[test]
fn an_invalid_network_is_refused_with_a_reason() {
    let host = shared();
    for (options, words) in [
        ("-o brigde=br1", &["unknown option", "brigde", "options of ciao-net are tenant, bridge"][..]),
        ("--ipam-opt tenat=acme", &["unknown option", "tenat", "options of ciao-ipam are tenant"]),
        ("--ipam-opt tenant=acme --subnet 10.5.0.0/24", &["of tenant acme", "-o tenant=acme"]),
        ("-o tenant=../x --ipam-opt tenant=x", &["tenant", "../x"]),
        ("-o bridge=a-bridge-with-many-letters", &["a-bridge-with-many-letters", "15"]),
        ("-o bridge=lo", &["bridge lo has a reserved name"]),
        ("-o host_bridge=docker0 -o egress=nat", &["egress=nat"]),
        ("-o com.docker.network.driver.mtu=67", &["MTU 67 is not between 68 and 65535"]),
        (
            "-o com.docker.network.driver.mtu=many",
            &["MTU \"many\" is not a number of bytes: give one between 68 and 65535"],
        ),
        ("-o egress=NAT", &["option egress=NAT: egress is one of nat, gateway, docker, none"]),
        ("--subnet 10.5.0.0/24 -o routes=10.9.0.0/16=10.6.0.1", &["10.6.0.1 is in no subnet of the network"]),
        ("-o routes=0.0.0.0/0=10.5.0.9", &["the default route is --gateway's"]),
        ("--subnet 169.254.70.0/24", &["169.254.70.0/24 overlaps 169.254.64.0/18", "--uplink-pool"]),
        ("--internal -o egress=nat", &["egress=nat", "--internal"]),
        ("-o cnci=192.0.2.9 -o egress=nat", &["cnci", "egress=nat"]),
        ("-o vnics=maybe", &["vnics=maybe"]),
        ("-o dst_prefix=a/b", &["dst_prefix=a/b"]),
        ("-o routes=10.9.0.0/16=nowhere", &["routes", "nowhere", "is not an IP address"]),
    ] {
        refused(&host, &format!("{CREATE} {options} app"), words);
    }
    assert_nothing_left(&host, &[]);

    let acme = "-o tenant=acme --ipam-opt tenant=acme";
    host.sh(&format!("{CREATE} {acme} --subnet 10.5.0.0/16 app")).unwrap();
    let before = everything(&host);
    refused(
        &host,
        &format!("{CREATE} {acme} --subnet 10.5.7.0/24 part"),
        &["10.5.7.0/24 overlaps", "10.5.0.0/16", "tenant acme"],
    );
    refused(&host, &format!("{CREATE} {acme} --subnet 10.5.0.0/16 again"), &["overlaps", "10.5.0.0/16", "bridge"]);
    assert_eq!(everything(&host), before);
    host.docker(&["network", "rm", "app"]).unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn an_invalid_container_is_refused_with_a_reason() {
    let host = shared();
    host.sh(&format!("{VNIC} --mac 02:00:0a:05:00:07")).unwrap();
    let bridge = sql(&host, "SELECT bridge FROM vnic");
    let vnic = sql(&host, "SELECT id FROM vnic");
    let acme = ["--subnet", "10.5.0.0/24", "-o", "tenant=red", "--ipam-opt", "tenant=red"];
    network(&host, "app", &[&acme[..], &["-o", &format!("bridge={bridge}")]].concat());
    let strict =
        ["--subnet", "10.6.0.0/24", "-o", "vnics=required", "-o", "tenant=strict", "--ipam-opt", "tenant=strict"];
    network(&host, "strict", &strict);
    run(&host, "taken", &["--network", "app", "--ip", "10.5.0.2", "--mac-address", "02:00:0a:05:00:02"]);
    let before = everything(&host);
    for (args, words) in [
        ("--network app --ip 10.5.0.2", &["10.5.0.2", "in use"][..]),
        ("--network app --ip 10.5.0.1", &["10.5.0.1", "in use as a gateway"]),
        ("--network app --ip 10.9.0.9", &["10.9.0.9"]),
        (
            "--network app --ip 10.5.0.7 --mac-address 02:00:00:00:00:99",
            &["02:00:00:00:00:99", &vnic, "give --mac-address 02:00:0a:05:00:07"],
        ),
        ("--network app --mac-address 02:00:0a:05:00:02", &["02:00:0a:05:00:02", "in use"]),
        ("--network strict --ip 10.6.0.9", &["no VNIC has address 10.6.0.9", "vnics=required", "ciao-net vnic create"]),
        ("--network name=app,driver-opt=colour=blue", &["unknown option", "colour", "instance, vnic"]),
        ("--network name=app,driver-opt=vnic=0123456789", &["VNIC 0123456789 is unknown", "ciao-net vnic list"]),
    ] {
        refused(&host, &format!("docker run --rm {args} busybox true"), words);
        settles(&host, &before, args);
    }
    host.sh(&format!("docker rm -f taken; docker network rm app strict; ciao-net vnic delete {vnic}")).unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn an_invalid_vnic_is_refused_with_a_reason() {
    let host = shared();
    for (command, words) in [
        (&*format!("{VNIC} --mac 02:00:0a:05:00:07 --gateway 10.6.0.1"), &["gateway 10.6.0.1 is outside"][..]),
        (&format!("{VNIC} --mac 02:00:0a:05:00:07 --gateway 10.5.0.7"), &["10.5.0.7 is the gateway's"]),
        (&format!("{VNIC} --mac 02:00:0a:05:00:07 --mtu 67"), &["MTU 67"]),
        (&format!("{VNIC} --mac 02:00:0a:05:00:07 --bridge lo"), &["bridge lo has a reserved name"]),
        (&VNIC.replace("10.5.0.7", "10.6.0.7 --mac 02:00:0a:05:00:07"), &["10.6.0.7 is outside of subnet 10.5.0.0/24"]),
        (&VNIC.replace("10.5.0.7", "10.5.0.255 --mac 02:00:0a:05:00:07"), &["10.5.0.255", "broadcast"]),
        ("ciao-net vnic show 0123456789", &["VNIC 0123456789 is unknown: see \"ciao-net vnic list\""]),
        (
            "ciao-net launch --tenant red --instance w --subnet 10.5.0.0/24 --ip 10.5.0.7 --mac 02:00:0a:05:00:07 --name w busybox",
            &["create container w", "name"],
        ),
    ] {
        refused(&host, command, words);
    }
    for (usage, word) in [
        ("--mac 1", "--mac"),
        ("--mac ff:ff:ff:ff:ff:ff", "--mac"),
        ("", "--mac"),
        ("--mac 02:00:0a:05:00:07 --mtu many", "give one between 68 and 65535"),
        ("--mac 02:00:0a:05:00:07 --gateway x", "\"x\" is not an IP address: give one such as 10.5.0.2"),
    ] {
        let output = host.try_sh(&format!("{VNIC} {usage}")).unwrap();
        assert_eq!(output.code, 2, "wrong usage: {}", output.stderr);
        assert!(output.stderr.contains(word), "{}", output.stderr);
    }
    assert_nothing_left(&host, &[]);

    let first = host.sh(&format!("{VNIC} --mac 02:00:0a:05:00:07 --json")).unwrap();
    let before = everything(&host);
    assert_eq!(host.sh(&format!("{VNIC} --mac 02:00:0a:05:00:07 --json")).unwrap(), first, "the same one");
    for (change, words) in [
        (("web", "db"), &["10.5.0.7 is instance web's"][..]),
        (("00:07", "00:08"), &["a different MAC address (02:00:0a:05:00:07)", "delete it first"]),
        (("--ip 10.5.0.7", "--ip 10.5.0.8"), &["02:00:0a:05:00:07 is instance web's"]),
    ] {
        refused(&host, &format!("{VNIC} --mac 02:00:0a:05:00:07").replace(change.0, change.1), words);
    }
    assert_eq!(everything(&host), before);
    host.sh(&format!("ciao-net vnic delete {}", sql(&host, "SELECT id FROM vnic"))).unwrap();
    assert_nothing_left(&host, &[]);
}
