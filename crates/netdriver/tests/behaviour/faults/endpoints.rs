// SPDX-License-Identifier: Apache-2.0
//! The kernel failing in the middle of endpoints' calls.

use super::{MAC, at_every_change, said, with_all, with_network, with_vnic};
use crate::bench::Bench;
use crate::ports::{binding, publish};
use crate::requests::{endpoint, names_of};

#[test]
fn create_endpoint_of_a_launcher_s_vnic() {
    at_every_change(
        true,
        |b| {
            with_network(b);
            with_vnic(b);
        },
        |b| said(b.call("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", MAC))),
    );
}

#[test]
fn create_endpoint_of_docker_s_own() {
    at_every_change(true, with_network, |b| {
        said(b.call("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24 fd00:1::2/64", "")))
    });
}

#[test]
fn create_endpoint_in_the_place_of_a_stale_one() {
    at_every_change(
        false,
        |b| {
            with_network(b);
            b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", ""));
        },
        |b| said(b.call("CreateEndpoint", &endpoint("e2", "n1", "192.168.111.2/24", ""))),
    );
}

#[test]
fn delete_endpoint() {
    at_every_change(false, with_all, |b| {
        b.kill_containers();
        said(b.call("DeleteEndpoint", &names_of("n1", "e1")))
            .and(said(b.call("DeleteEndpoint", &names_of("n1", "e2"))))?;
        b.whole_reconcile()
    });
}

#[test]
fn delete_endpoint_with_published_ports() {
    at_every_change(
        false,
        |b| {
            with_network(b);
            b.run("e1", "n1", "192.168.111.2/24", "");
            let ports = [binding(6, (0, 0), ""), binding(17, (0, 0), "")];
            b.ok("ProgramExternalConnectivity", &publish("n1", "e1", &ports));
        },
        |b| {
            b.release_link("e1");
            said(b.call("DeleteEndpoint", &names_of("n1", "e1")))
        },
    );
}

#[test]
fn join_of_a_missing_link() {
    at_every_change(
        true,
        |b| {
            with_network(b);
            with_vnic(b);
            b.ok("CreateEndpoint", &endpoint("e1", "n1", "192.168.111.2/24", MAC));
        },
        |b| {
            b.reboot();
            said(b.call("Join", &names_of("n1", "e1")))?;
            b.driver.watch_firewall().map_err(|error| format!("{error:#}"))
        },
    );
}

#[test]
fn a_panic_in_the_background_ends_no_background_work() {
    let b = Bench::new();
    with_network(&b);
    for (name, address) in [("e2", "192.168.111.2/24"), ("e3", "192.168.111.3/24")] {
        b.run(name, "n1", address, "");
    }
    let deleting = |name| {
        b.ok("DeleteEndpoint", &names_of("n1", name));
        b.driver.wait_for_tasks();
        b.store.read(|tx| tx.vnics_deleting()).unwrap().len()
    };
    b.kernel.panic_in("links");
    assert_eq!(deleting("e2"), 1, "what panics is left to the next reconcile");
    assert!(!b.kernel.is_failure_pending(), "it panicked");
    assert_eq!(deleting("e3"), 1, "the next one is deleted");
    b.reconcile();
    b.assert_consistent();
}
