// SPDX-License-Identifier: Apache-2.0
//! The launcher's flow in its single steps: a VNIC, the network that its answer describes, a container fully specified.

use ciao_common::cli::client::Client;
use ciao_tests::lab::Host;
use serde_json::{Value, json};

use crate::hosts::shared;
use crate::scene::{LIVE, addresses, assert_nothing_left, mac_and_mtu, printed_json, reaches, run, sql};

fn vnic(host: &Host, tenant: &str, last: u8) -> Value {
    let place = format!("--tenant {tenant} --instance {tenant}-{last} --subnet 192.168.111.0/24");
    let address = format!("--ip 192.168.111.{last} --mac 02:00:c0:a8:6f:{last:02x}");
    printed_json(host, &format!("ciao-net vnic create {place} {address} --mtu 1400 --json"))
}

#[test]
fn a_launcher_posts_the_networks_body_to_docker_and_runs_containers_on_it() {
    let host = shared();
    let docker = Client::new("dockerd", host.path("/run/docker.sock")).unwrap();
    for tenant in ["red", "blue"] {
        let first = vnic(&host, tenant, 2);
        assert_eq!(first["network"]["create"], true);
        let made = docker.post("/networks/create", &first["network"]["docker"]).unwrap();
        assert_eq!(made.status, 201, "{}", made.body);
        let second = vnic(&host, tenant, 3);
        assert_eq!(second["network"]["create"], false, "the network is there now");
        assert_eq!(second["network"]["id"], made.body["Id"]);
        for vnic in [&first, &second] {
            let body = container(vnic, made.body["Id"].as_str().unwrap());
            let instance = vnic["instance"].as_str().unwrap();
            let created = docker.post(&format!("/containers/create?name={instance}"), &body).unwrap();
            assert_eq!(created.status, 201, "{}", created.body);
            assert_eq!(docker.post(&format!("/containers/{instance}/start"), &Value::Null).unwrap().status, 204);
        }
        let instance = format!("{tenant}-2");
        assert_eq!(mac_and_mtu(&host, &instance, "eth0"), ("02:00:c0:a8:6f:02".into(), "1400".into()));
        assert!(reaches(&host, &instance, "192.168.111.3"));
    }
    // Taken down in the same steps: the last VNIC's reply shows that the network can go.
    for tenant in ["red", "blue"] {
        for last in [2, 3] {
            host.docker(&["rm", "-f", &format!("{tenant}-{last}")]).unwrap();
            let id = sql(&host, &format!("SELECT id FROM vnic WHERE instance = '{tenant}-{last}'"));
            let deleted = printed_json(&host, &format!("ciao-net vnic delete {id} --json"));
            assert_eq!((&deleted["deleted"], &deleted["network"]["remove"]), (&json!(true), &json!(last == 3)));
            if last == 3 {
                host.docker(&["network", "rm", deleted["network"]["id"].as_str().unwrap()]).unwrap();
            }
            let again = printed_json(&host, &format!("ciao-net vnic delete {id} --json"));
            assert_eq!(again["deleted"], false, "deleted again: a success");
        }
    }
    assert_nothing_left(&host, &[]);
}

/// The body of `POST /containers/create`. The MAC address is left to the VNIC.
fn container(vnic: &Value, network: &str) -> Value {
    json!({
        "Image": LIVE[0],
        "Cmd": &LIVE[1..],
        "HostConfig": { "NetworkMode": network },
        "NetworkingConfig": {
            "EndpointsConfig": { network: { "IPAMConfig": { "IPv4Address": vnic["address"] } } },
        },
    })
}

#[test]
fn an_administrator_types_dockers_commands_for_a_vnic() {
    let host = shared();
    let made = vnic(&host, "red", 7);
    let bridge = made["bridge"].as_str().unwrap();
    // With both options, and without any but the bridge: the VNICs on it determine the tenant.
    for options in ["-o tenant=red --ipam-opt tenant=red", ""] {
        let subnet = "--subnet 192.168.111.0/24 --gateway 192.168.111.1";
        let drivers = "-d ciao-net --ipam-driver ciao-ipam";
        host.sh(&format!("docker network create {drivers} {subnet} {options} --opt bridge={bridge} app")).unwrap();
        assert_eq!(sql(&host, "SELECT tenant FROM network"), "red");
        run(&host, "web", &["--network", "app", "--ip", "192.168.111.7", "--mac-address", "02:00:c0:a8:6f:07"]);
        assert_eq!(mac_and_mtu(&host, "web", "eth0"), ("02:00:c0:a8:6f:07".into(), "1400".into()));
        assert!(reaches(&host, "web", "192.168.111.1"));
        assert_eq!(sql(&host, "SELECT instance, owner FROM vnic WHERE endpoint IS NOT NULL"), "red-7|launcher");
        assert_eq!(sql(&host, "SELECT instance FROM lease WHERE state = 'bound'"), "red-7");
        host.sh("docker rm -f web; docker network rm app").unwrap();
    }
    host.sh(&format!("ciao-net vnic delete {}", made["id"].as_str().unwrap())).unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn a_container_finds_its_vnic_by_address_by_instance_or_by_id() {
    let host = shared();
    let made = vnic(&host, "red", 7);
    let docker = Client::new("dockerd", host.path("/run/docker.sock")).unwrap();
    assert_eq!(docker.post("/networks/create", &made["network"]["docker"]).unwrap().status, 201);
    let network = made["network"]["name"].as_str().unwrap();
    let by_id = format!("name={network},driver-opt=vnic={}", made["id"].as_str().unwrap());
    let by_instance = format!("name={network},driver-opt=instance=red-7");
    for args in
        [&["--network", network, "--ip", "192.168.111.7"][..], &["--network", &by_id], &["--network", &by_instance]]
    {
        let with_address = [args, if args.len() == 2 { &["--ip", "192.168.111.7"] } else { &[] }].concat();
        run(&host, "web", &with_address);
        assert_eq!(sql(&host, "SELECT instance FROM vnic WHERE endpoint IS NOT NULL"), "red-7");
        assert_eq!(addresses(&host, "web", "eth0"), ["192.168.111.7/24"]);
        host.docker(&["rm", "-f", "web"]).unwrap();
    }
    host.sh(&format!("docker network rm {network}; ciao-net vnic delete {}", made["id"].as_str().unwrap())).unwrap();
    assert_nothing_left(&host, &[]);
}
