// SPDX-License-Identifier: Apache-2.0
//! Beside the host's firewalls, and after somebody's reload of one.

use std::thread::sleep;
use std::time::{Duration, Instant};

use ciao_tests::lab::{Engine, Host};
use ciao_tests::world::{Place, network, soon};

use crate::scene::{SUBNETS, open, page, publish_red, red_is_published, serve_peer_address, with_internet};

/// A firewall rejects or drops what comes to this port of the host; nothing else is tested of it.
const CLOSED: &str = "203.0.113.1:9999";

/// How long it takes until red gets out and is reached again.
fn recovers(itself: &Place, internet: &Place, red: &Place, after: &str) {
    let since = Instant::now();
    let out = || red.fetch_each(["203.0.113.2:80", "[2001:db8::2]:80"]) == [page("internet"), page("internet")];
    assert!(soon(|| red_is_published(itself, internet) && out()), "after `{after}`");
    println!("after `{after}` recovered in {:.1} s", since.elapsed().as_secs_f32());
}

#[test]
fn a_flushed_firewall_is_restored_within_six_seconds() {
    let (host, itself, internet) = open("flush");
    let red = publish_red(&host, "");
    assert!(soon(|| red_is_published(&itself, &internet)));
    for flush in ["iptables -F; ip6tables -F", "nft delete table inet ciao", "nft flush ruleset"] {
        host.ciao_net().kill().unwrap(); // which would restore it before a look
        host.sh(flush).unwrap();
        assert!(!red_is_published(&itself, &internet), "`{flush}` is seen to do harm");
        host.ciao_net().start().unwrap();
        assert!(soon(|| red_is_published(&itself, &internet)), "a start restores after `{flush}`");

        host.sh(flush).unwrap();
        let since = Instant::now();
        while !(red_is_published(&itself, &internet) && red.fetch("203.0.113.2:80") == page("internet")) {
            assert!(since.elapsed() < Duration::from_secs(6), "after `{flush}`");
        }
        println!("after `{flush}` recovered in {:.1} s", since.elapsed().as_secs_f32());
    }
}

/// A host of the machine's own Debian, whose packages are at hand, with an open port and red's published one.
fn with_package(name: &str, package: &str) -> (Host, Place, Place, Place) {
    let host = Host::builder().name(name).engine(Engine::Machine).start().unwrap();
    host.install(&[package]).unwrap();
    let (host, itself, internet) = with_internet(host);
    serve_peer_address(&itself, CLOSED);
    assert!(internet.fetch(CLOSED).is_some(), "without a firewall it is open");
    let red = publish_red(&host, "");
    recovers(&itself, &internet, &red, "docker run");
    (host, itself, internet, red)
}

#[test]
fn beside_ufw_tenants_have_egress_and_published_ports() {
    let (host, itself, internet, red) = with_package("ufw", "ufw");
    for act in ["ufw --force enable", "ufw reload", "iptables -F FORWARD; ip6tables -F FORWARD"] {
        host.sh(act).unwrap();
        assert!(host.sh("ufw status verbose").unwrap().contains("deny (routed)"));
        assert_eq!(internet.fetch(CLOSED), None, "the firewall does its work");
        recovers(&itself, &internet, &red, act);
    }
    host.sh("ufw --force disable").unwrap();
    recovers(&itself, &internet, &red, "ufw --force disable");
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn beside_firewalld_tenants_have_egress_and_published_ports() {
    let (host, itself, internet, red) = with_package("firewalld", "firewalld");
    host.sh("mkdir -p /run/dbus").unwrap();
    let _bus = host.spawn("dbus", ["dbus-daemon", "--system", "--nofork", "--nopidfile"]).unwrap();
    assert!(soon(|| host.try_sh("[ -S /run/dbus/system_bus_socket ]").unwrap().code == 0));
    let _firewalld = host.spawn("firewalld", ["firewalld", "--nofork", "--nopid"]).unwrap();
    assert!(soon(|| host.try_sh("firewall-cmd --state").unwrap().code == 0), "firewalld runs");
    for act in ["firewall-cmd --state", "firewall-cmd --reload", "firewall-cmd --complete-reload"] {
        host.sh(act).unwrap();
        assert_eq!(internet.fetch(CLOSED), None, "the firewall does its work");
        recovers(&itself, &internet, &red, act);
    }
    assert!(host.sh("firewall-cmd --zone=trusted --list-interfaces").unwrap().contains("cu+"));
    host.sh("docker rm -f red; docker network rm red").unwrap();
    assert!(soon(|| host.sh("firewall-cmd --zone=trusted --list-interfaces").unwrap().is_empty()), "nothing is left");
    assert!(!host.sh("nft list ruleset").unwrap().contains("\"cu"));
}

#[test]
fn an_idle_host_has_its_rules_written_once() {
    let (host, ..) = open("still");
    network(&host, "red", "red", SUBNETS).unwrap();
    let lan =
        "ip link add br-lan type bridge; ip link add lan0 type vxlan id 5 dstport 4789; ip link set lan0 master br-lan";
    host.sh(lan).unwrap();
    let listed = || host.sh("nft list set inet ciao egress_links").unwrap();
    assert!(soon(|| listed().contains("br-lan")), "{}", listed());
    // The guard is made again after the rules.
    let guarded = || host.sh("nft list set inet ciao_guard egress_links").is_ok_and(|set| set.contains("br-lan"));
    assert!(soon(guarded));
    let log = "/run/monitor";
    let script = format!("exec nft monitor >{log}");
    let monitor = host.spawn("monitor", ["sh", "-c", &script]).unwrap();
    let received = || std::fs::read_to_string(host.path(log)).unwrap_or_default();
    assert!(soon(|| {
        host.sh("nft add table ip probe; nft delete table ip probe").unwrap();
        received().contains("probe")
    }));
    sleep(Duration::from_secs(5)); // more than two rounds
    let lines = received();
    let of_ours: Vec<_> = lines.lines().filter(|line| line.contains("ciao")).collect();
    assert_eq!(of_ours, Vec::<&str>::new());
    host.sh("ip link add br-other type bridge; ip link add other0 type veth peer other1; ip link set other0 master br-other").unwrap();
    sleep(Duration::from_secs(4));
    assert!(!received().contains("br-other"), "a bridge between veths only leads nowhere");
    host.sh("ip link set lan0 master br-other").unwrap();
    assert!(soon(|| received().contains("br-other")), "a change is written");
    monitor.kill().unwrap();
}

#[test]
fn forwarding_is_enabled_where_it_is_off_and_logged() {
    let (host, itself, internet) = open("forward");
    for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        host.sh(&format!("echo 0 >/proc/sys/net/{family}")).unwrap();
    }
    let red = publish_red(&host, "");
    let log = host.ciao_net().log().unwrap();
    for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        assert_eq!(host.sh(&format!("cat /proc/sys/net/{family}")).unwrap(), "1");
        let expected = format!("net.{} changed from 0 to 1", family.replace('/', "."));
        let logged = log.lines().find(|line| line.contains(&expected));
        println!("{}", logged.expect("it is logged"));
    }
    recovers(&itself, &internet, &red, "docker run");
}
