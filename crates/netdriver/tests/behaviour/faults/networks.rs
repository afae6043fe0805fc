// SPDX-License-Identifier: Apache-2.0
//! The kernel failing in the middle of networks' calls.

use super::{SUBNET, acme, at_every_change, delete_network, said, with_all, with_network, with_vnic};
use crate::requests::{endpoint, network};

#[test]
fn create_network_of_a_new_tenant() {
    at_every_change(true, |_| {}, |b| said(b.call("CreateNetwork", &acme())));
}

#[test]
fn create_network_beside_another_one() {
    at_every_change(
        true,
        |b| drop(b.ok("CreateNetwork", &network("n0", &["10.0.0.0/24"], &[("tenant", "acme"), ("bridge", "br0")]))),
        |b| said(b.call("CreateNetwork", &acme())),
    );
}

#[test]
fn create_network_on_a_launcher_s_bridge() {
    at_every_change(true, with_vnic, |b| said(b.call("CreateNetwork", &acme())));
}

#[test]
fn create_network_without_port_security_on_a_bridge_in_use() {
    at_every_change(true, with_vnic, |b| {
        let options = [("tenant", "acme"), ("bridge", "br1"), ("port_security", "off")];
        said(b.call("CreateNetwork", &network("n1", &[SUBNET], &options)))
    });
}

#[test]
fn delete_network_the_only_one() {
    at_every_change(false, with_network, delete_network);
}

#[test]
fn delete_network_beside_another_one() {
    at_every_change(
        false,
        |b| {
            with_network(b);
            b.ok("CreateNetwork", &network("n0", &["10.0.0.0/24"], &[("tenant", "acme"), ("bridge", "br0")]));
        },
        delete_network,
    );
}

#[test]
fn delete_network_with_a_launcher_s_vnic_and_endpoints() {
    at_every_change(
        false,
        |b| {
            with_all(b);
            b.kill_containers();
            b.reconcile();
            b.ok("CreateEndpoint", &endpoint("e3", "n1", "192.168.111.3/24", ""));
        },
        delete_network,
    );
}

#[test]
fn delete_network_with_an_exception_to_egress_deny_beside_another_one_on_its_bridge() {
    at_every_change(
        false,
        |b| {
            let on_br1 = [("tenant", "acme"), ("bridge", "br1")];
            let allowed = [&on_br1[..], &[("egress_allow", "10.20.1.0/24")]].concat();
            b.ok("CreateNetwork", &network("n1", &[SUBNET], &allowed));
            b.ok("CreateNetwork", &network("n0", &["10.0.0.0/24"], &on_br1));
        },
        delete_network,
    );
}
