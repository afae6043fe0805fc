// SPDX-License-Identifier: Apache-2.0
//! Egress by NAT and ingress by published ports, for two tenants whose containers have the same address.

use ciao_tests::lab::Host;

use crate::hosts::own;
use crate::scene::{assert_nothing_left, network, refused, wait_until};

/// A machine outside at 192.0.2.2, whose web server returns `outside`.
const OUTSIDE: &str = "
    ip link add wan type veth peer name eth0 netns outside
    ip address add 192.0.2.1/24 dev wan
    ip link set wan up
    ip route add default via 192.0.2.2
    ip -n outside address add 192.0.2.2/24 dev eth0
    ip -n outside link set eth0 up
    mkdir -p /run/outside
    echo outside >/run/outside/index.html
    ip netns exec outside busybox httpd -p 80 -h /run/outside
";

/// A web server in a container of a tenant, which returns its tenant.
fn serve(host: &Host, tenant: &str, publish: &str) {
    let options = [format!("tenant={tenant}"), format!("tenant={tenant}")];
    network(host, tenant, &["--subnet", "10.5.0.0/24", "-o", &options[0], "--ipam-opt", &options[1]]);
    let serve = format!("echo {tenant} >index.html; trap exit TERM; httpd -f & wait");
    let place = ["--network", tenant, "--ip", "10.5.0.2", "-p", publish];
    host.docker(&[&["run", "-d", "--name", tenant], &place[..], &["busybox", "sh", "-c", &serve]].concat()).unwrap();
}

fn ask(host: &Host, prefix: &str, url: &str) -> String {
    host.try_sh(&format!("{prefix} timeout 2 busybox wget -q -O - http://{url}")).unwrap().stdout
}

/// The bridge need not be declared to ciao-net first.
#[test]
fn a_tenant_never_reaches_a_network_of_dockers_own_that_was_made_while_ciao_net_was_dead() {
    let host = own("own-bridge");
    let lan = "ip link add br-lan type bridge; ip address add 192.0.2.1/24 dev br-lan; ip link set br-lan up";
    host.sh(&format!("{lan}; ip route add default via 192.0.2.254 metric 9999")).unwrap();
    serve(&host, "red", "8080:80");
    host.ciao_net().kill().unwrap();
    host.docker(&[
        "network",
        "create",
        "--subnet",
        "10.8.0.0/24",
        "-o",
        "com.docker.network.bridge.name=br-app",
        "private",
    ])
    .unwrap();
    let server = ["busybox", "sh", "-c", "echo private >index.html; trap exit TERM; httpd -f & wait"];
    host.docker(
        &[&["run", "-d", "--name", "private", "--network", "private", "--ip", "10.8.0.2"], &server[..]].concat(),
    )
    .unwrap();
    let ask_from = |prefix: &str| ask(&host, prefix, "10.8.0.2");
    wait_until("the host reaches it", || ask_from("") == "private");
    assert_eq!(ask_from("docker exec red"), "");
    host.ciao_net().start().unwrap();
    assert_eq!(ask_from("docker exec red"), "");
    let open = host.sh("nft list set inet ciao egress_links").unwrap();
    assert!(open.contains("br-lan") && !open.contains("br-app"), "a bridge that leads out stays open: {open}");
    host.sh("docker rm -f red private; docker network rm red private; ip link delete br-lan").unwrap();
    assert_nothing_left(&host, &[]);
}

#[test]
fn published_ports_lead_to_the_tenant_that_published_them() {
    let host = own("ports");
    host.add_namespace("outside").unwrap();
    host.sh(OUTSIDE).unwrap();
    serve(&host, "red", "8080:80");
    serve(&host, "blue", "8081:80");
    for (tenant, port) in [("red", 8080), ("blue", 8081)] {
        for (from, address) in [("", "127.0.0.1"), ("", "192.0.2.1"), ("ip netns exec outside", "192.0.2.1")] {
            wait_until(&format!("{tenant} answers at {address}:{port} {from}"), || {
                ask(&host, from, &format!("{address}:{port}")) == tenant
            });
        }
    }
    refused(
        &host,
        "docker run --rm --network blue -p 8080:80 busybox true",
        &["8080", "in use", "publish another one"],
    );
    refused(
        &host,
        "docker run --rm --network blue -p 192.0.2.77:80:80 busybox true",
        &["192.0.2.77", "not an address of this host"],
    );

    // A restarted container, and restarted daemons, keep it so.
    host.docker(&["restart", "red"]).unwrap();
    host.ciao_net().kill().unwrap();
    host.ciao_net().start().unwrap();
    wait_until("red answers again", || ask(&host, "ip netns exec outside", "192.0.2.1:8080") == "red");
    host.docker(&["stop", "red"]).unwrap();
    assert_eq!(ask(&host, "", "127.0.0.1:8080"), "");
    host.sh("timeout 1 busybox nc -l -p 8080 </dev/null || [ $? -eq 124 ]").unwrap();

    host.sh("docker rm -f red blue; docker network rm red blue").unwrap();
    host.sh("! nft list tables | grep ciao").unwrap();
    assert_nothing_left(&host, &["wan"]);
}

#[test]
fn a_tenant_reaches_the_outside_and_neither_the_host_nor_another_tenant() {
    let host = own("nat");
    host.add_namespace("outside").unwrap();
    host.sh(OUTSIDE).unwrap();
    serve(&host, "red", "8080:80");
    serve(&host, "blue", "8081:80");
    network(&host, "inner", &["--internal"]);
    host.sh(
        "docker run -d --name inner --network inner busybox sleep 600; mkdir /run/own; busybox httpd -p 99 -h /run/own",
    )
    .unwrap();
    for tenant in ["red", "blue"] {
        let from = format!("docker exec {tenant}");
        assert_eq!(ask(&host, &from, "192.0.2.2"), "outside");
        refused(&host, &format!("{from} wget -q -T 1 -O - http://192.0.2.1:99/"), &[]);
    }
    refused(&host, "docker exec inner ping -c 1 -W 1 192.0.2.2", &[]);
    host.sh("docker rm -f red blue inner; docker network rm red blue inner").unwrap();
    assert_nothing_left(&host, &["wan"]);
}
