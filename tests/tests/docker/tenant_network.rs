// SPDX-License-Identifier: Apache-2.0
//! A tenant's network without a launcher: Docker's commands, Docker's DNS, Docker's options.

use crate::hosts::shared;
use crate::scene::{
    addresses, assert_nothing_left, at_once, exec, interfaces, is_cut_off, mac_and_mtu, network, reaches, run, sql,
};

const ACME: [&str; 4] = ["-o", "tenant=acme", "--ipam-opt", "tenant=acme"];

#[test]
fn containers_of_a_tenant_reach_each_other_by_address_and_by_name() {
    let host = shared();
    network(&host, "app", &[&ACME[..], &["--subnet", "10.5.0.0/24"]].concat());
    run(&host, "web", &["--network", "app"]);
    run(&host, "db", &["--network", "app", "--network-alias", "store"]);
    assert_eq!(addresses(&host, "web", "eth0"), ["10.5.0.2/24"]);
    for target in ["10.5.0.3", "db", "store", "10.5.0.1"] {
        assert!(reaches(&host, "web", target), "web reaches {target}");
    }
    let mac = mac_and_mtu(&host, "db", "eth0").0;

    // Stopped, nobody answers; each way of coming back is the same container at the same place.
    host.docker(&["stop", "db"]).unwrap();
    assert!(is_cut_off(&host, "web", "10.5.0.3"));
    assert_eq!(sql(&host, "SELECT count(*) FROM lease WHERE address = '10.5.0.3'"), "0");
    for verbs in ["start", "restart", "kill start", "pause unpause", "stop start"] {
        for verb in verbs.split(' ') {
            host.docker(&[verb, "db"]).unwrap();
        }
        assert!(reaches(&host, "web", "db"), "after {verbs}");
        assert_eq!(mac_and_mtu(&host, "db", "eth0").0, mac, "after {verbs}");
    }
    host.sh("docker rm -f web db; docker network rm app").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn a_network_has_the_options_that_docker_offers() {
    let host = shared();
    let v4 = ["--subnet", "10.5.0.0/16", "--ip-range", "10.5.1.0/24", "--gateway", "10.5.0.1"];
    let aux = ["--aux-address", "printer=10.5.1.0", "--aux-address", "router=10.5.1.2"];
    let v6 = ["--ipv6", "--subnet", "fd00:5::/64"];
    let ours = [
        "-o",
        "com.docker.network.driver.mtu=1400",
        "-o",
        "dst_prefix=net",
        "-o",
        "routes=10.9.0.0/16=10.5.0.254,10.8.0.0/16",
    ];
    network(&host, "app", &[&ACME[..], &v4, &aux, &v6, &ours].concat());
    run(&host, "web", &["--network", "app"]);
    run(&host, "db", &["--network", "app"]);
    // 10.5.1.0 and 10.5.1.2 are the printer's and the router's.
    assert_eq!(addresses(&host, "web", "net0"), ["10.5.1.1/16", "fd00:5::2/64"]);
    assert_eq!(addresses(&host, "db", "net0"), ["10.5.1.3/16", "fd00:5::3/64"]);
    assert_eq!(mac_and_mtu(&host, "web", "net0").1, "1400");
    let routes = exec(&host, "web", "ip route; ip -6 route");
    for route in ["10.9.0.0/16 via 10.5.0.254", "10.8.0.0/16 dev net0", "default via 10.5.0.1", "default via fd00:5::1"]
    {
        assert!(routes.contains(route), "{route} is missing in: {routes}");
    }
    for target in ["10.5.1.3", "fd00:5::3", "10.5.0.1", "fd00:5::1", "db"] {
        assert!(reaches(&host, "web", target), "web reaches {target}");
    }
    assert_eq!(sql(&host, "SELECT group_concat(address) FROM lease WHERE state = 'aux'"), "10.5.1.0,10.5.1.2");
    // A packet as large as the MTU fits, through both links and the bridge.
    exec(&host, "web", "ping -c 1 -W 1 -s 1372 10.5.1.3");
    host.sh("docker rm -f web db; docker network rm app").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn a_container_joins_and_leaves_networks_while_it_runs() {
    let host = shared();
    network(&host, "front", &[]);
    network(&host, "back", &["--internal"]);
    run(&host, "web", &["--network", "front"]);
    run(&host, "db", &["--network", "back"]);
    assert_eq!(interfaces(&host, "db"), ["eth0", "lo"], "an internal network adds no second interface");
    assert!(!exec(&host, "db", "ip route").contains("default"), "an internal network leads nowhere");
    for _ in 0..2 {
        host.docker(&["network", "connect", "back", "web"]).unwrap();
        assert_eq!(interfaces(&host, "web").len(), 3);
        assert!(reaches(&host, "web", "db"));
        assert!(exec(&host, "web", "ip route").contains("default via"), "its first network still leads out");
        host.docker(&["network", "disconnect", "back", "web"]).unwrap();
        assert_eq!(interfaces(&host, "web"), ["eth0", "lo"]);
    }
    host.docker(&["network", "connect", "--ip", "172.19.0.77", "back", "web"]).unwrap_err();
    host.sh("docker rm -f web db; docker network rm front back").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn two_networks_of_a_tenant_share_its_namespace_and_not_their_subnets() {
    let host = shared();
    for (name, subnet) in [("app", "10.5.0.0/24"), ("db", "10.6.0.0/24")] {
        network(&host, name, &[&ACME[..], &["--subnet", subnet]].concat());
        run(&host, &format!("on-{name}"), &["--network", name]);
        assert!(reaches(&host, &format!("on-{name}"), subnet.replace("0/24", "1").as_str()));
    }
    assert_eq!(sql(&host, "SELECT group_concat(DISTINCT namespace) FROM network"), "ciao-acme");
    host.sh("docker rm -f on-app; docker network rm app").unwrap();
    assert!(reaches(&host, "on-db", "10.6.0.1"), "the other network of the tenant is not touched");
    host.sh("docker rm -f on-db; docker network rm db").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn every_container_of_a_scaled_out_burst_gets_an_address_of_its_own() {
    let host = shared();
    network(&host, "app", &["--subnet", "10.5.0.0/28"]);
    at_once(&host, (0..8).map(|n| format!("docker run -d --name c{n:02} --network app busybox sleep 600")));
    let leases = "SELECT count(DISTINCT address), count(DISTINCT endpoint) FROM lease WHERE state = 'bound'";
    assert_eq!(sql(&host, leases), "8|8");
    assert!(reaches(&host, "c00", "c07"));
    host.sh("docker rm -f $(docker ps -aq); docker network rm app").unwrap();
    assert_nothing_left(&host, &[]);
}
