// SPDX-License-Identifier: Apache-2.0
//! A host that forwards is a router: between which of its networks is decided by the host alone.

use ciao_tests::lab::Host;
use ciao_tests::world::{network, serve, soon};

use crate::scene::{SUBNETS, Scene, open, page, policies, scene, sql};

/// What an administrator writes who wants the LAN to reach the management network.
const FORWARDER: &str = "for tool in iptables ip6tables; do
    $tool -A FORWARD -i lan0 -o mgmt0 -j ACCEPT; $tool -A FORWARD -i mgmt0 -o lan0 -j ACCEPT; done";
const NO_FORWARDER: &str = "for tool in iptables ip6tables; do
    $tool -D FORWARD -i lan0 -o mgmt0 -j ACCEPT; $tool -D FORWARD -i mgmt0 -o lan0 -j ACCEPT; done";

/// The limits of the neighbour table, which a machine's first network namespace has alone: files in their place.
const FIRST_NAMESPACE: &str = "mount -t tmpfs tmpfs /proc/sys/net/ipv4/neigh && cd /proc/sys/net/ipv4/neigh &&
    mkdir default && echo 128 > default/gc_thresh1 && echo 512 > default/gc_thresh2 && echo 1024 > default/gc_thresh3";
const NEIGHBOURS: &str = "for n in 1 2 3; do echo $(cat /proc/sys/net/ipv4/neigh/default/gc_thresh$n); done";

/// The host routes between its networks for those only whom it lets, and red is well.
fn assert_closed(scene: &Scene, when: &str) {
    assert_eq!(scene.forwarded(), Vec::<String>::new(), "{when}: LAN to management network");
    println!("{when}: LAN to mgmt 0 of 2 packets, {}", policies(&scene.host).replace('\n', ", "));
    scene.host.sh(FORWARDER).unwrap();
    assert_eq!(scene.forwarded(), ["IPv4", "IPv6"], "{when}: a forwarder with rules of its own");
    scene.host.sh(NO_FORWARDER).unwrap();
}

/// Whoever starts first, the host is no open router.
fn assert_no_open_router(scene: &Scene) {
    let host = &scene.host;
    assert_eq!(sql(host, "SELECT count(*) FROM host_setting"), "0", "without a network nothing is changed");
    // dockerd was first, for IPv4.
    let red = scene.publish("red", "");
    assert_closed(scene, "dockerd, then ciao");
    assert_eq!(scene.lan.fetch("198.51.100.1:8080"), page("red"));
    // And it sees: with an open policy both packets arrive.
    host.sh("iptables -P FORWARD ACCEPT; ip6tables -P FORWARD ACCEPT").unwrap();
    assert_eq!(scene.forwarded(), ["IPv4", "IPv6"], "with policy ACCEPT they are forwarded");
    host.sh("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP").unwrap();
    drop(red);

    host.docker(&["rm", "-f", "red"]).unwrap();
    scene.reboot();
    assert_closed(scene, "ciao, then dockerd");
    let red = serve(host, "red", "--network red -p 8080:80").unwrap();
    assert!(soon(|| scene.lan.fetch("198.51.100.1:8080") == page("red")));
    assert!(soon(|| scene.lan.fetch("[2001:db8:a::1]:8080") == page("red")));
    assert_eq!(red.fetch_each(["203.0.113.2:80", "[2001:db8::2]:80"]), [page("internet"), page("internet")]);
    // An unpublished port of a container on Docker's own bridge.
    serve(host, "own", "").unwrap();
    let own = host.sh("docker inspect -f '{{.NetworkSettings.IPAddress}}' own").unwrap();
    assert_eq!(scene.itself.fetch(&format!("{own}:80")), page("own"));
    assert_eq!(scene.lan.fetch(&format!("{own}:80")), None);
}

#[test]
fn ciao_first_or_dockerd_first_the_host_is_no_open_router() {
    assert_no_open_router(&open("router"));
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn with_the_older_iptables_it_is_the_same() {
    let scene = open("legacy");
    let host = &scene.host;
    host.sh("for tool in iptables ip6tables; do update-alternatives --set $tool /usr/sbin/$tool-legacy; done").unwrap();
    scene.reboot();
    assert_no_open_router(&scene);
    assert!(host.sh("iptables -V").unwrap().contains("legacy"));
    // The administrator's word comes first, and a flush is repaired.
    let published = || scene.lan.fetch("198.51.100.1:8080") == page("red");
    host.sh("iptables -I DOCKER-USER -i lan0 -j DROP").unwrap();
    assert!(!published());
    host.sh("iptables -D DOCKER-USER -i lan0 -j DROP; iptables -F FORWARD").unwrap();
    assert!(!published(), "the policy is DROP");
    assert!(soon(published));
}

#[test]
fn changed_settings_are_recorded_shown_and_restored() {
    let host = Host::builder()
        .name("switched")
        .dockerd_args(["--iptables=false", "--ip6tables=false", "--ip-forward=false"])
        .start()
        .unwrap();
    let state = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding \
        /proc/sys/net/ipv6/conf/*/accept_ra; iptables -S; ip6tables -S; cd /proc/sys/net; \
        grep . ipv[46]/conf/*/forwarding ipv[46]/conf/*/accept_redirects";
    host.sh("ip link add lan0 type veth peer name lan1").unwrap();
    // As a hardened host has it, and one that forwards from one link.
    host.sh("sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.lan0.forwarding=1 net.ipv6.conf.lan1.forwarding=1")
        .unwrap();
    let state = &format!("{state}; {NEIGHBOURS}");
    host.sh(FIRST_NAMESPACE).unwrap();
    let before = host.sh(state).unwrap();
    network(&host, "red", "red", SUBNETS).unwrap();
    assert_eq!(policies(&host), "-P FORWARD DROP\n-P FORWARD DROP");
    assert_eq!(host.sh(NEIGHBOURS).unwrap(), "8192\n49152\n65536");
    let shown = host.sh("ciao-net host show").unwrap();
    for setting in [
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
        "iptables -P FORWARD",
        "net.ipv6.conf.lan0.accept_ra",
        "net.ipv4.neigh.default.gc_thresh3",
    ] {
        assert!(shown.contains(setting), "{setting}: {shown}");
        assert_ne!(sql(&host, &format!("SELECT count(*) FROM host_setting WHERE name = '{setting}'")), "0");
    }
    println!("{shown}");
    // Another start changes nothing, and keeps what was before.
    host.ciao_net().stop().unwrap();
    host.ciao_net().start().unwrap();
    assert_eq!(sql(&host, "SELECT before, after FROM host_setting WHERE name = 'net.ipv4.ip_forward'"), "0|1");
    host.docker(&["network", "rm", "red"]).unwrap();
    assert!(
        host.try_sh("ciao-net host restore").unwrap().stderr.contains("ciao-net runs"),
        "not under a running daemon"
    );
    host.ciao_net().stop().unwrap();
    println!("{}", host.sh("ciao-net host restore").unwrap());
    assert_eq!(host.sh(state).unwrap(), before);
}

#[test]
fn settings_that_others_need_are_left() {
    let scene = open("needed");
    let host = &scene.host;
    scene.publish("red", "");
    // dockerd switched IPv4 on, and Docker's rules stand in FORWARD.
    host.sh("docker rm -f red; docker network rm red").unwrap();
    host.ciao_net().stop().unwrap();
    let said = host.sh("ip6tables -A FORWARD -i lan0 -j ACCEPT; ciao-net host restore || [ $? = 3 ]").unwrap();
    assert!(said.contains("net.ipv6.conf.all.forwarding") && said.contains("left"), "{said}");
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding").unwrap(), "1\n1");
}

#[test]
fn without_iptables_the_same_is_done_by_nft() {
    let hide = "for file in /usr/sbin/*tables*; do case $file in */nft*) ;; *) mv $file $file.off ;; esac; done";
    let builder = Host::builder().name("nft").dockerd_args(["--iptables=false", "--ip-forward=false"]);
    let scene = scene(builder);
    let host = &scene.host;
    host.sh(hide).unwrap();
    assert_ne!(host.try_sh("iptables -S").unwrap().code, 0);
    let red = scene.publish("red", "");
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/ip_forward").unwrap(), "1");
    assert_eq!(scene.forwarded(), Vec::<String>::new(), "{}", host.sh("nft list ruleset").unwrap());
    assert_eq!(red.fetch_each(["203.0.113.2:80", "[2001:db8::2]:80"]), [page("internet"), page("internet")]);
    assert_eq!(scene.lan.fetch("198.51.100.1:8080"), page("red"));
    // iptables comes later, and finds a table of its own form.
    host.sh("for file in /usr/sbin/*.off; do mv $file ${file%.off}; done").unwrap();
    assert_eq!(policies(host), "-P FORWARD DROP\n-P FORWARD DROP");
    assert!(host.sh("iptables -S CIAO-FORWARD").unwrap().contains("-A CIAO-FORWARD -i cu+ -j ACCEPT"));
    assert_eq!(red.fetch("203.0.113.2:80"), page("internet"));
}

#[test]
fn a_reloaded_firewall_does_not_open_the_router() {
    let scene = scene(Host::builder().name("reload").dockerd_args(["--iptables=false", "--ip-forward=false"]));
    let host = &scene.host;
    let red = scene.publish("red", "");
    for act in [
        "nft flush ruleset",
        "iptables -F; iptables -X; iptables -P FORWARD ACCEPT; ip6tables -F; ip6tables -P FORWARD ACCEPT",
    ] {
        host.sh(act).unwrap();
        assert!(soon(|| scene.forwarded().is_empty()), "after `{act}`");
        assert!(soon(|| red.fetch("203.0.113.2:80") == page("internet")), "after `{act}`");
    }
    // An administrator's own word holds.
    host.sh("iptables -P FORWARD ACCEPT").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(policies(host).starts_with("-P FORWARD ACCEPT"));
    // A sysctl that somebody loads again.
    host.sh("echo 0 >/proc/sys/net/ipv4/ip_forward").unwrap();
    assert!(soon(|| red.fetch("203.0.113.2:80") == page("internet")), "forwarding is switched on again");
}
