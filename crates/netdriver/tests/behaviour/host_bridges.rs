// SPDX-License-Identifier: Apache-2.0
//! Existing bridges of the host: used where `host_bridge` names them, and never changed.

use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::FakeLink;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{id, network, vnic};

const SUBNET: &str = "192.168.111.0/24";

fn host_bridge(b: &Bench, name: &str) {
    let key = (Namespace::Host, name.parse().unwrap());
    b.kernel.change(|state| drop(state.links.insert(key, FakeLink::Bridge([].into()))));
}

#[test]
fn an_existing_bridge_of_the_host_is_used_and_left_alone() {
    let b = Bench::new();
    host_bridge(&b, "lan0");
    let before = b.kernel.state();
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("host_bridge", "lan0")]));
    assert_eq!(b.kernel.state().links, before.links);
    b.assert_consistent();
    b.run("e1", "n1", "192.168.111.9/24", "");
    b.stop("n1", "e1");
    b.ok("DeleteNetwork", &json!({ "NetworkID": id("n1") }));
    assert_eq!(b.kernel.state(), before);
    let error =
        b.call("CreateNetwork", &network("n1", &[SUBNET], &[("host_bridge", "lan0"), ("egress", "nat")])).unwrap_err();
    assert!(error.contains("is a bridge of the host"), "{error}");
}

#[test]
fn a_link_of_the_host_that_is_not_a_bridge_is_refused() {
    let b = Bench::new();
    b.kernel.change(|state| drop(state.links.insert((Namespace::Host, "eth0".parse().unwrap()), FakeLink::Other)));
    let rows = b.rows();
    for (name, expected) in [
        ("eth0", "eth0 is a link of this host but not a bridge: give another host_bridge"),
        ("lan9", "this host has no bridge lan9: create it first, or give bridge=lan9 for a bridge of ciao-net"),
    ] {
        let error = b.call("CreateNetwork", &network("n1", &[SUBNET], &[("host_bridge", name)])).unwrap_err();
        assert_eq!(error, expected);
    }
    let both = [("bridge", "br1"), ("host_bridge", "eth0")];
    let error = b.call("CreateNetwork", &network("n1", &[SUBNET], &both)).unwrap_err();
    assert!(error.contains("exclude each other"), "{error}");
    assert_eq!(b.rows(), rows);
}

#[test]
fn a_host_bridge_of_that_name_is_used_with_host_bridge_only() {
    let b = Bench::new();
    host_bridge(&b, "br1");
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("tenant", "acme"), ("bridge", "br1")]));
    b.run("e1", "n1", "192.168.111.9/24", "");
    let own = (Namespace::Named("ciao-acme".to_owned()), "br1".parse().unwrap());
    assert!(b.kernel.state().links.contains_key(&own), "the tenant's own");
    let mut request = vnic("blue", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02");
    request["bridge"] = json!("br1");
    assert_eq!(b.vnic(&request)["namespace"], "ciao-blue");
    let isolation = |b: &Bench| -> Vec<Value> {
        b.store.read(|tx| tx.view("network", None)).unwrap().into_iter().map(|row| row["isolation"].clone()).collect()
    };
    assert_eq!(isolation(&b), ["on"]);
    b.ok("CreateNetwork", &network("n2", &["10.9.0.0/24"], &[("tenant", "red"), ("host_bridge", "br1")]));
    assert_eq!(isolation(&b), ["on", "none: the host's bridge"]);
    b.assert_consistent();
}

#[test]
fn recorded_networks_stay_on_their_bridge_of_the_host() {
    let b = Bench::new();
    host_bridge(&b, "lan0");
    let mut request = vnic("acme", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02");
    request["host_bridge"] = json!("lan0");
    let made = b.vnic(&request);
    assert_eq!(made["network"]["docker"]["Options"], json!({ "tenant": "acme", "host_bridge": "lan0" }));
    // As an earlier version said it, whose launcher goes on.
    let mut again = request.clone();
    again.as_object_mut().unwrap().remove("host_bridge");
    again["bridge"] = json!("lan0");
    assert_eq!(b.vnic(&again)["id"], made["id"]);
    let b = b.restarted();
    assert_eq!(b.reconcile(), [""; 0]);
    b.ok("CreateNetwork", &network("n1", &[SUBNET], &[("tenant", "acme"), ("bridge", "lan0")]));
    let networks = b.store.read(|tx| tx.networks()).unwrap();
    assert_eq!(networks[0].namespace, None, "with its VNICs");
}
