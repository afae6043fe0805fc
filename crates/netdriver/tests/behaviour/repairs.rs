// SPDX-License-Identifier: Apache-2.0
//! What somebody else changed under a record: it is listed by a dry run, restored by the next pass, and listed the
//! same.

use ciao_common::types::LinkName;
use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::{FakeLink, State};
use ciao_netdriver::reconcile::{Depth, Repair};
use serde_json::json;

use crate::bench::Bench;
use crate::requests::{network, vnic};

const SUBNET: &str = "192.168.111.0/24";

/// A launcher's and a Docker's VNIC, both in containers, on a network that leaves the host over IPv4 and IPv6.
fn busy() -> Bench {
    let b = Bench::new();
    let mut request = vnic("red", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02");
    request["bridge"] = json!("br1");
    b.vnic(&request);
    b.ok("CreateNetwork", &network("red", &[SUBNET, "fd00:1::/64"], &[("tenant", "red"), ("bridge", "br1")]));
    b.run("red1", "red", "192.168.111.2/24", "");
    b.run("red2", "red", "192.168.111.3/24 fd00:1::3/64", "");
    b.age_endpoints();
    b
}

fn inside() -> Namespace {
    Namespace::Named("ciao-red".to_owned())
}

/// The first link of a kind in a namespace.
fn link(state: &State, namespace: &Namespace, is_meant: fn(&str, &FakeLink) -> bool) -> (Namespace, LinkName) {
    let mut links = state.links.iter();
    links.find(|((ns, name), kind)| ns == namespace && is_meant(name.as_str(), kind)).unwrap().0.clone()
}

/// What somebody else does, and what is restored.
type Change = (&'static str, fn(&mut State));

const CHANGES: [Change; 13] = [
    ("link hv", |state| {
        let end = link(state, &inside(), |_, kind| matches!(kind, FakeLink::HostEnd(..)));
        state.down.insert(end);
    }),
    ("link hv", |state| {
        let end = link(state, &inside(), |_, kind| matches!(kind, FakeLink::HostEnd(..)));
        if let Some(FakeLink::HostEnd(bridge, _)) = state.links.get_mut(&end) {
            *bridge = "other".parse().unwrap();
        }
    }),
    ("link hv", |state| {
        let first = state.neighbours.keys().next().unwrap().clone();
        state.neighbours.remove(&first);
    }),
    ("bridge br1", |state| {
        state.down.insert((inside(), "br1".parse().unwrap()));
    }),
    ("gateway address 192.168.111.1", |state| {
        if let Some(FakeLink::Bridge(addresses)) = state.links.get_mut(&(inside(), "br1".parse().unwrap())) {
            addresses.remove(&"192.168.111.1".parse().unwrap());
        }
    }),
    ("net.ipv4.ip_forward of the host", |state| {
        state.not_forwarding.insert(Namespace::Host);
    }),
    ("net.ipv4.ip_forward of network namespace ciao-red", |state| {
        state.not_forwarding.insert(inside());
    }),
    ("uplink cu", |state| {
        let end = link(state, &Namespace::Host, |name, _| name.starts_with("cu"));
        state.down.insert(end);
    }),
    ("uplink cu", |state| {
        state.down.insert((inside(), "up0".parse().unwrap()));
    }),
    ("uplink cu", |state| {
        state.unrouted.insert("ciao-red".to_owned());
    }),
    ("rules of network namespace ciao-red", |state| drop(state.rules.remove(&inside()))),
    ("rules of network namespace ciao-red", |state| drop(state.rules.get_mut(&inside()).unwrap().pop_first())),
    ("rules of the host", |state| drop(state.rules.remove(&Namespace::Host))),
];

fn texts(rows: Vec<Repair>) -> Vec<String> {
    rows.into_iter().map(|row| format!("{} {}: {} {:?}", row.action, row.what, row.why, row.error)).collect()
}

#[test]
fn every_foreign_change_is_listed_and_restored() {
    let b = busy();
    let good = b.kernel.state();
    for depth in [Depth::Full, Depth::Changed] {
        for (number, (what, change)) in CHANGES.iter().enumerate() {
            b.kernel.change(change);
            assert_ne!(b.kernel.state(), good, "change {number} changes something");
            let dry = texts(b.driver.reconcile(Depth::DryRun));
            let done = texts(b.driver.reconcile(depth));
            assert_eq!(dry, done, "change {number}");
            assert!(done.len() == 1 && done[0].starts_with(&format!("restore {what}")), "change {number}: {done:?}");
            assert_eq!(b.kernel.state(), good, "change {number}");
            assert_eq!(texts(b.driver.reconcile(depth)), [""; 0], "change {number}");
        }
    }
}

/// The tables are gone and nft does not work.
#[test]
fn vnics_whose_rules_cannot_be_restored_are_set_down_until_they_are() {
    let b = busy();
    let good = b.kernel.state();
    b.kernel.change(|state| drop(state.rules.remove(&inside())));
    // Seen, compared, and then loading fails.
    let rows = (0..).find_map(|passes| {
        b.kernel.fail_once_after(passes);
        let rows = b.driver.reconcile(Depth::Changed);
        b.kernel.fail_after(None);
        let failed = rows.iter().any(|row| row.error.as_ref().is_some_and(|error| error.contains("are down until")));
        failed.then_some(rows).or_else(|| {
            b.kernel.change(|state| *state = good.clone());
            b.kernel.change(|state| drop(state.rules.remove(&inside())));
            assert!(passes < 50, "no call that loads rules");
            None
        })
    });
    let rows = rows.unwrap();
    let row = rows.iter().find(|row| row.what.starts_with("rules of network namespace ciao-red")).unwrap();
    assert!(row.error.as_ref().unwrap().starts_with("2 VNICs are down until their rules are restored"), "{row:?}");
    let down: Vec<_> = b.kernel.state().down.into_iter().filter(|(_, link)| link.as_str().starts_with("hv")).collect();
    assert_eq!(down.len(), 2, "{rows:?}");
    b.driver.reconcile(Depth::Changed);
    assert_eq!(b.kernel.state(), good);
}

/// The host's rules lack an element and cannot be written: the next network does not get an uplink beside them.
#[test]
fn a_network_is_created_only_when_the_host_s_rules_are_as_recorded() {
    let b = busy();
    let good = b.kernel.state();
    let spoil = || b.kernel.change(|state| drop(state.rules.get_mut(&Namespace::Host).unwrap().pop_first()));
    spoil();
    let failed = (0..50).any(|passes| {
        b.kernel.fail_once_after(passes);
        let rows = b.driver.reconcile(Depth::Changed);
        b.kernel.fail_after(None);
        let failed = rows.iter().any(|row| row.error.as_ref().is_some_and(|error| error.contains("uplinks are down")));
        if !failed {
            b.kernel.change(|state| *state = good.clone());
            spoil();
        }
        failed
    });
    assert!(failed, "no call that loads the host's rules");
    let blue = network("blue", &[SUBNET], &[("tenant", "blue")]);
    b.kernel.fail_after(Some(0));
    b.call("CreateNetwork", &blue).unwrap_err();
    b.kernel.fail_after(None);
    b.ok("CreateNetwork", &blue);
    assert!(b.kernel.state().rules[&Namespace::Host].is_superset(&good.rules[&Namespace::Host]));
}

/// Somebody changes the host's rules, and a network is created before anybody looks.
#[test]
fn a_change_of_the_host_s_rules_is_noticed_whatever_is_created_meanwhile() {
    let b = busy();
    b.driver.reconcile(Depth::Changed);
    let good = b.kernel.state().rules[&Namespace::Host].clone();
    b.kernel.change(|state| drop(state.rules.get_mut(&Namespace::Host).unwrap().pop_first()));
    b.ok("CreateNetwork", &network("blue", &[SUBNET], &[("tenant", "blue")]));
    b.driver.reconcile(Depth::Changed);
    assert!(b.kernel.state().rules[&Namespace::Host].is_superset(&good));
}

/// The veth pair of a running container is deleted: nothing can give it another one.
#[test]
fn a_container_whose_link_was_deleted_is_listed_for_a_restart() {
    let b = busy();
    let endpoints = b.store.read(|tx| tx.endpoints()).unwrap();
    let known = json!({
        "engine": "E",
        "networks": b.store.read(|tx| tx.networks()).unwrap().into_iter().map(|network| network.id).collect::<Vec<_>>(),
        "endpoints": endpoints.iter().map(|endpoint| &endpoint.id).collect::<Vec<_>>(),
    });
    b.kill_containers();
    let (status, rows) = b.launcher("POST", "/v1/reconcile", known.to_string().as_bytes());
    assert_eq!(status, 200);
    let rows = rows.as_array().unwrap();
    let restart = rows.iter().find(|row| row["action"] == "restart").unwrap();
    assert!(restart["error"].as_str().unwrap().contains("restart container"), "{rows:?}");
    let made = rows.iter().find(|row| row["action"] == "create").unwrap();
    assert!(
        made["why"].as_str().unwrap().contains("restart its container"),
        "the launcher's is created again: {rows:?}"
    );
    assert_eq!(b.store.read(|tx| tx.endpoints()).unwrap().len(), 2, "Docker knows them");
}
