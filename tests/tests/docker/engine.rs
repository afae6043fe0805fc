// SPDX-License-Identifier: Apache-2.0
//! dockerd ends, by SIGTERM and by SIGKILL, and comes back: so do its containers, at their addresses.

use ciao_tests::lab::Host;

use crate::hosts::shared;
use crate::scene::{
    LIVE, addresses, assert_nothing_left, inspect, mac_and_mtu, network, reaches, run, sql, wait_until,
};

/// A launcher's instance and a tenant's container that come back by themselves, and one that does not.
fn populate(host: &Host) {
    let vnic = "--tenant red --instance web --subnet 10.5.0.0/24 --ip 10.5.0.7 --mac 02:00:0a:05:00:07";
    host.sh(&format!("ciao-net launch --name web --restart always {vnic} {} sh -c '{}'", LIVE[0], LIVE[3])).unwrap();
    network(host, "own", &["--subnet", "10.6.0.0/24", "--ip-range", "10.6.0.128/25"]);
    run(host, "auto", &["--network", "own", "--restart", "always"]);
    run(host, "manual", &["--network", "own", "--ip", "10.6.0.9"]);
}

fn assert_back(host: &Host, how: &str) {
    for container in ["web", "auto"] {
        wait_until(&format!("{container} comes back after {how}"), || {
            inspect(host, container, "{{.State.Running}}") == "true"
        });
    }
    assert_eq!(addresses(host, "web", "eth0"), ["10.5.0.7/24"], "after {how}");
    assert_eq!(mac_and_mtu(host, "web", "eth0").0, "02:00:0a:05:00:07", "after {how}");
    assert!(reaches(host, "web", "10.5.0.1"), "after {how}");
    assert_eq!(inspect(host, "manual", "{{.State.Running}}"), "false");
    host.docker(&["start", "manual"]).unwrap();
    assert_eq!(addresses(host, "manual", "eth0"), ["10.6.0.9/24"], "after {how}");
    assert!(reaches(host, "manual", "auto"), "after {how}");
    assert_eq!(sql(host, "SELECT instance, owner FROM vnic WHERE instance IS NOT NULL"), "web|launcher");
}

fn remove(host: &Host) {
    host.sh("ciao-net terminate web; docker rm -f auto manual; docker network rm own").unwrap();
    assert_nothing_left(host, &[]);
}

#[test]
fn containers_come_back_with_their_addresses_when_dockerd_is_restarted() {
    let host = shared();
    populate(&host);
    host.dockerd().stop().unwrap();
    assert_eq!(sql(&host, "SELECT count(*) FROM endpoint"), "0", "every container was stopped and released");
    host.dockerd().start().unwrap();
    assert_back(&host, "SIGTERM");
    remove(&host);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn containers_come_back_with_their_addresses_when_dockerd_was_killed() {
    let host = shared();
    populate(&host);
    for _ in 0..2 {
        host.dockerd().kill().unwrap();
        host.dockerd().start().unwrap();
        assert_back(&host, "SIGKILL");
    }
    remove(&host);
}

#[test]
fn what_a_killed_dockerd_never_released_is_released_with_its_network() {
    let host = shared();
    populate(&host);
    host.dockerd().kill().unwrap();
    host.dockerd().start().unwrap();
    // Nobody starts `manual` again; its endpoint was never deleted.
    remove(&host);
}

#[test]
fn containers_keep_running_while_a_dockerd_with_live_restore_is_killed() {
    let host = Host::builder().name("live").dockerd_args(["--live-restore"]).start().unwrap();
    populate(&host);
    let endpoints = sql(&host, "SELECT endpoint FROM endpoint ORDER BY 1");
    host.dockerd().kill().unwrap();
    host.dockerd().start().unwrap();
    assert_eq!(sql(&host, "SELECT endpoint FROM endpoint ORDER BY 1"), endpoints);
    assert!(reaches(&host, "web", "10.5.0.1"));
    assert!(reaches(&host, "manual", "auto"));
    host.docker(&["restart", "web"]).unwrap();
    assert_eq!(addresses(&host, "web", "eth0"), ["10.5.0.7/24"]);
    remove(&host);
}
