// SPDX-License-Identifier: Apache-2.0
//! The ciao daemons end, by SIGTERM and by SIGKILL, and come back between Docker's calls: nobody notices.

use ciao_tests::lab::{Daemon, Host};

use crate::hosts::{own, shared};
use crate::scene::{LIVE, addresses, assert_nothing_left, network, reaches, run, sql, wait_until};

fn kill_and_start(daemon: &Daemon) {
    daemon.kill().unwrap();
    daemon.start().unwrap();
}

fn both(host: &Host) -> [&Daemon; 2] {
    [host.ciao_net(), host.ciao_ipam()]
}

#[test]
fn daemons_killed_between_any_two_commands_lose_nothing() {
    let host = shared();
    let again = || both(&host).into_iter().for_each(kill_and_start);
    network(&host, "app", &["--subnet", "10.5.0.0/24", "-o", "tenant=red", "--ipam-opt", "tenant=red"]);
    again();
    run(&host, "web", &["--network", "app"]);
    again();
    assert_eq!(addresses(&host, "web", "eth0"), ["10.5.0.2/24"]);
    run(&host, "db", &["--network", "app"]);
    assert_eq!(addresses(&host, "db", "eth0"), ["10.5.0.3/24"], "an answered address is not given twice");
    again();
    let vnic = "--tenant red --instance extra --subnet 10.5.0.0/24 --ip 10.5.0.4 --mac 02:00:0a:05:00:04";
    host.sh(&format!("ciao-net launch --name extra {vnic} {} sh -c '{}'", LIVE[0], LIVE[3])).unwrap();
    again();
    for target in ["10.5.0.3", "10.5.0.4", "10.5.0.1", "db"] {
        assert!(reaches(&host, "web", target), "web reaches {target}");
    }
    host.docker(&["stop", "extra"]).unwrap();
    again();
    run(&host, "fresh", &["--network", "app"]);
    assert_eq!(addresses(&host, "fresh", "eth0"), ["10.5.0.5/24"], "a reservation outlives the daemons");
    host.docker(&["start", "extra"]).unwrap();
    again();
    assert!(reaches(&host, "web", "10.5.0.4"));
    host.docker(&["restart", "db"]).unwrap();
    assert!(reaches(&host, "web", "db"));
    again();
    host.sh("docker rm -f web db fresh").unwrap();
    again();
    host.sh("ciao-net terminate extra").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn daemons_end_with_0_when_asked_and_containers_do_not_notice() {
    let host = shared();
    network(&host, "app", &["--subnet", "10.5.0.0/24"]);
    run(&host, "web", &["--network", "app"]);
    run(&host, "db", &["--network", "app"]);
    let before = sql(&host, "SELECT * FROM lease; SELECT * FROM vnic");
    for daemon in both(&host) {
        assert!(daemon.stop().unwrap().success());
    }
    assert!(host.try_sh("ls /run/ciao/*.sock").unwrap().stdout.is_empty(), "the sockets they made are gone");
    assert!(reaches(&host, "web", "db"), "traffic needs no daemon");
    for daemon in both(&host) {
        daemon.start().unwrap();
    }
    assert_eq!(sql(&host, "SELECT * FROM lease; SELECT * FROM vnic"), before);
    host.docker(&["restart", "db"]).unwrap();
    assert!(reaches(&host, "web", "db"));
    host.sh("docker rm -f web db; docker network rm app").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn a_network_is_made_at_once_beside_what_the_host_routes() {
    let pools = ["--default-pool", "10.16.0.0/12,24", "--default-pool", "192.168.64.0/18,24"];
    let host = Host::builder().name("routed").ciao_ipam_args(pools).start().unwrap();
    let subnet = |network: &str| {
        let format = "{{(index .IPAM.Config 0).Subnet}}";
        host.docker(&["network", "inspect", "-f", format, network]).unwrap()
    };
    let since = std::time::Instant::now();
    network(&host, "before", &[]);
    let before = since.elapsed();
    assert_eq!(subnet("before"), "10.16.0.0/24");
    host.sh("ip link add wan type bridge; ip link set wan up; ip route add 10.0.0.0/8 dev wan").unwrap();
    wait_until("the route is recorded", || sql(&host, "SELECT subnet FROM host_route").contains("10.0.0.0/8"));
    let since = std::time::Instant::now();
    network(&host, "beside", &[]);
    let limit = 4 * before + std::time::Duration::from_secs(3);
    assert!(since.elapsed() < limit, "the engine asked again and again: {:?}", since.elapsed());
    assert_eq!(subnet("beside"), "192.168.64.0/24");
    host.sh("ip route delete 10.0.0.0/8").unwrap();
    wait_until("the route is gone", || !sql(&host, "SELECT subnet FROM host_route").contains("10.0.0.0/8"));
    network(&host, "after", &[]);
    assert_eq!(subnet("after"), "10.16.1.0/24");
}

#[test]
fn what_a_reboot_removed_is_created_again() {
    let host = own("reboot");
    let vnic = "--tenant red --instance web --subnet 10.5.0.0/24 --ip 10.5.0.7 --mac 02:00:0a:05:00:07";
    host.sh(&format!("ciao-net launch --name web --restart always {vnic} {} sh -c '{}'", LIVE[0], LIVE[3])).unwrap();
    network(&host, "own", &["--subnet", "10.6.0.0/24"]);
    run(&host, "other", &["--network", "own", "--restart", "always"]);
    // A power cut, as far as a host without a kernel of its own can have one: links, namespaces and processes go.
    host.dockerd().kill().unwrap();
    both(&host).into_iter().for_each(|daemon| daemon.kill().unwrap());
    host.sh("pkill -KILL -x 'containerd|containerd-shim.*|sleep' || true
        for name in $(ip netns list | cut -d' ' -f1); do ip netns delete $name; done
        for link in /sys/class/net/[ch]v*; do ip link delete ${link##*/} 2>/dev/null || true; done
        rm -f /run/docker.pid /run/docker/containerd/*.pid")
        .unwrap();
    for daemon in both(&host) {
        daemon.start().unwrap();
    }
    // They listen first, and answer when all is there again.
    wait_until("both namespaces are back", || host.sh("ip netns list | grep -c ^ciao || true").unwrap() == "2");
    host.dockerd().start().unwrap();
    wait_until("both containers are back", || {
        host.docker(&["ps", "--format", "{{.Names}}"]).unwrap().lines().count() == 2
    });
    assert_eq!(addresses(&host, "web", "eth0"), ["10.5.0.7/24"]);
    assert!(reaches(&host, "web", "10.5.0.1"));
    assert!(reaches(&host, "other", "10.6.0.1"));
    host.sh("ciao-net terminate web; docker rm -f other; docker network rm own").unwrap();
    assert_nothing_left(&host, &[]);
}
