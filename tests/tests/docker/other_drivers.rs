// SPDX-License-Identifier: Apache-2.0
//! Each driver beside somebody else's: ciao-net on Docker's own IPAM, ciao-ipam under Docker's own networks.

use crate::hosts::{own, shared};
use crate::scene::{addresses, assert_nothing_left, reaches, run, sql};

#[test]
fn ciao_net_works_with_dockers_own_ipam() {
    let host = shared();
    host.sh("docker network create -d ciao-net -o tenant=acme --subnet 10.5.0.0/24 app").unwrap();
    run(&host, "web", &["--network", "app"]);
    run(&host, "db", &["--network", "app"]);
    for target in ["db", "10.5.0.1"] {
        assert!(reaches(&host, "web", target), "web reaches {target}");
    }
    assert_eq!(sql(&host, "SELECT count(*) FROM lease"), "0");
    host.docker(&["restart", "db"]).unwrap();
    assert!(reaches(&host, "web", "db"));
    host.sh("docker rm -f web db; docker network rm app").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn dockers_networks_work_with_ciao_ipam() {
    let host = own("foreign");
    host.sh("ip link add uplink type veth peer name wall; ip link set uplink up; ip link set wall up").unwrap();
    for (driver, options, first) in [
        ("bridge", "--ipam-opt tenant=acme --subnet 10.5.0.0/24", "10.5.0.2/24"),
        (
            "macvlan",
            "--subnet 10.6.0.0/24 --gateway 10.6.0.1 --ip-range 10.6.0.128/25 -o parent=uplink",
            "10.6.0.128/24",
        ),
        ("bridge", "", ""),
    ] {
        host.sh(&format!("docker network create -d {driver} --ipam-driver ciao-ipam {options} app")).unwrap();
        run(&host, "web", &["--network", "app"]);
        run(&host, "db", &["--network", "app"]);
        assert!(reaches(&host, "web", "db"), "{driver} {options}");
        if !first.is_empty() {
            assert_eq!(addresses(&host, "web", "eth0"), [first]);
        }
        assert_eq!(sql(&host, "SELECT count(*) FROM lease WHERE state = 'granted'"), "2");
        assert_eq!(sql(&host, "SELECT count(*) FROM network"), "0");
        host.sh("docker rm -f web db; docker network rm app").unwrap();
        assert_nothing_left(&host, &["uplink", "wall"]);
    }
}
