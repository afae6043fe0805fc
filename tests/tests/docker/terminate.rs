// SPDX-License-Identifier: Apache-2.0
//! `ciao-net terminate` and `ciao-net tenant delete`: what goes with an instance or a tenant, and what stays.

use crate::hosts::shared;
use crate::launcher::launch;
use crate::scene::{assert_nothing_left, inspect, reaches, refused, run, sql};

#[test]
fn to_terminate_an_instance_removes_no_other_container_of_its_name() {
    let host = shared();
    launch(&host, "red", "web", 2, "");
    host.docker(&["run", "-d", "--name", "db", "busybox", "sleep", "600"]).unwrap();
    host.docker(&["run", "-d", "--name", "blue.web", "busybox", "sleep", "600"]).unwrap();
    refused(&host, "ciao-net terminate web --tenant blue", &["instance web of tenant blue is unknown", "vnic list"]);
    refused(&host, "ciao-net terminate db", &["instance db is unknown", "nothing was removed", "docker rm"]);

    // With a VNIC of its own, but on none of the containers that are called so.
    for (instance, last) in [("web", 2), ("db", 3)] {
        let place = format!("--subnet 192.168.111.0/24 --ip 192.168.111.{last} --mac 02:00:c0:a8:6f:0{last}");
        host.sh(&format!("ciao-net vnic create --tenant blue --instance {instance} {place}")).unwrap();
    }
    refused(&host, "ciao-net terminate web", &["several tenants have an instance web", "--tenant"]);
    for instance in ["web", "db"] {
        host.sh(&format!("ciao-net terminate {instance} --tenant blue")).unwrap();
    }
    assert_eq!(sql(&host, "SELECT group_concat(tenant) FROM vnic"), "red");
    for container in ["red.web", "blue.web", "db"] {
        assert_eq!(inspect(&host, container, "{{.State.Running}}"), "true", "{container} is left alone");
    }

    // Its labels are the instance, whatever it is called now.
    host.sh("docker rename red.web renamed; docker stop -t 0 renamed; docker rm -f db blue.web").unwrap();
    host.sh("ciao-net terminate web --tenant red").unwrap();
    assert_eq!(host.docker(&["ps", "-aq"]).unwrap(), "");
    assert_nothing_left(&host, &[]);
}

#[test]
fn an_instance_whose_container_has_stopped_or_was_run_by_hand_is_terminated() {
    let host = shared();
    launch(&host, "red", "web", 2, "");
    host.docker(&["stop", "red.web"]).unwrap();
    let vnic = "--tenant red --instance db --subnet 192.168.111.0/24 --ip 192.168.111.3 --mac 02:00:c0:a8:6f:03";
    host.sh(&format!("ciao-net vnic create {vnic}")).unwrap();
    run(&host, "db", &["--network", "red-192.168.111.0-24", "--ip", "192.168.111.3"]);
    host.sh("ciao-net terminate web; ciao-net terminate db").unwrap();
    assert_eq!(host.docker(&["ps", "-aq"]).unwrap(), "");
    assert_nothing_left(&host, &[]);
}

#[test]
fn objects_are_found_by_their_names_and_a_tenant_is_deleted_as_a_whole() {
    let host = shared();
    launch(&host, "red", "web", 2, "--network app");
    launch(&host, "blue", "web", 2, "");
    let id = |of: &str| sql(&host, &format!("SELECT id FROM vnic WHERE tenant = '{of}'"));
    let shown = |what: &str| host.sh(&format!("ciao-net vnic show {what} --json")).unwrap();
    assert!(shown("web --tenant red").contains(&id("red")));
    assert!(shown(&id("blue")[..9]).contains(&id("blue")));
    refused(&host, "ciao-net vnic show web", &["several VNICs match web", "red.web", "blue.web", "--tenant"]);
    let network = host.docker(&["network", "inspect", "-f", "{{.Id}}", "app"]).unwrap();
    for name in ["app", &network, &network[..7]] {
        assert!(host.sh(&format!("ciao-net network show {name}")).unwrap().contains(&network), "{name}");
    }
    refused(&host, "ciao-net network show bridge", &["network bridge is of driver bridge"]);

    assert_eq!(host.sh("ciao-net vnic ls -q --tenant red").unwrap(), id("red"));
    assert_eq!(host.sh("ciao-net tenant ls -q").unwrap(), "blue\nred");
    assert_eq!(host.sh("ciao-ipam lease ls -q --tenant blue").unwrap().lines().count(), 2);
    let tenant = host.sh("ciao-net tenant show red").unwrap();
    for word in ["ciao-red", "192.168.111.2", "web"] {
        assert!(tenant.contains(word), "{word}: {tenant}");
    }
    refused(&host, "ciao-net tenant show green", &["tenant green is unknown"]);

    // Everything of one tenant, whoever made it.
    host.sh("docker network create -d ciao-net --ipam-driver ciao-ipam -o tenant=red --subnet 10.5.0.0/24 more")
        .unwrap();
    host.docker(&["run", "-d", "--name", "db", "--network", "more", "busybox", "sleep", "600"]).unwrap();
    refused(&host, "ciao-net tenant delete red", &["tenant red has containers", "db", "red.web", "--force"]);
    let deleted = host.sh("ciao-net tenant delete red --force").unwrap();
    assert_eq!(deleted, "deleted 2 containers, 1 VNICs, 2 networks of tenant red");
    assert_eq!(host.sh("ciao-net tenant ls -q").unwrap(), "blue");
    assert!(reaches(&host, "blue.web", "192.168.111.1"), "the other one is left alone");
    refused(&host, "ciao-net tenant delete red", &["tenant red is unknown"]);
    host.sh("ciao-net tenant delete blue --force").unwrap();
    assert_nothing_left(&host, &[]);
}
