// SPDX-License-Identifier: Apache-2.0
//! Records and kernel brought together again: reboot, crash, killed dockerd, somebody's `ip link del`.

use std::collections::BTreeSet;

use ciao_common::serve::server::ANSWER_WITHIN;
use ciao_common::types::Subnet;
use ciao_netdriver::control::RECONCILE_WITHIN;
use ciao_netdriver::kernel::fake::FakeLink;
use ciao_netdriver::kernel::{Links, Namespace, Namespaces};
use serde_json::json;

use crate::bench::Bench;
use crate::requests::{id, network, vnic};

pub(super) const SUBNET: &str = "192.168.111.0/24";

/// Two tenants with the same subnet, a launcher's and a Docker's VNIC each, all running.
pub(super) fn busy() -> Bench {
    let b = Bench::new();
    for tenant in ["red", "blue"] {
        let made = b.vnic(&vnic(tenant, "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
        let options = [("tenant", tenant), ("bridge", made["bridge"].as_str().unwrap())];
        b.ok("CreateNetwork", &network(tenant, &[SUBNET], &options));
        b.run(&format!("{tenant}1"), tenant, "192.168.111.2/24", "");
        b.run(&format!("{tenant}2"), tenant, "192.168.111.3/24", "");
    }
    b
}

#[test]
fn nothing_is_done_where_all_is_well() {
    let b = busy();
    let (rows, state) = (b.rows(), b.kernel.state());
    assert_eq!(b.reconcile(), [""; 0]);
    b.age_endpoints();
    assert_eq!(b.reconcile(), [""; 0], "running containers are as well as young ones");
    let b = b.restarted();
    assert_eq!(b.reconcile(), [""; 0]);
    assert_eq!(b.kernel.state(), state);
    drop(rows);
    b.assert_consistent();
}

#[test]
fn after_a_reboot_networks_and_launchers_vnics_are_created_and_stale_endpoints_removed() {
    let b = busy();
    let vnics: Vec<_> =
        ["red", "blue"].map(|tenant| vnic(tenant, "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02")).into();
    let before: Vec<_> = vnics.iter().map(|request| b.vnic(request)["id"].clone()).collect();
    b.reboot();
    b.age_endpoints();
    let b = b.restarted();
    b.reconcile();
    b.assert_consistent();
    assert!(b.store.read(|tx| tx.endpoints()).unwrap().is_empty());
    let after: Vec<_> = vnics.iter().map(|request| b.vnic(request)["id"].clone()).collect();
    assert_eq!(before, after);
    for tenant in ["red", "blue"] {
        b.run(&format!("{tenant}3"), tenant, "192.168.111.2/24", "02:00:00:00:00:02");
        b.run(&format!("{tenant}4"), tenant, "192.168.111.3/24", "");
    }
    b.assert_consistent();
}

#[test]
fn a_dry_run_lists_the_same_repairs_and_makes_none() {
    let b = busy();
    b.reboot();
    b.age_endpoints();
    let (rows, state) = (b.rows(), b.kernel.state());
    let (status, said) = b.launcher("POST", "/v1/reconcile?dry_run=true", b"");
    assert_eq!((status, b.rows(), b.kernel.state()), (200, rows, state));
    let (_, done) = b.launcher("POST", "/v1/reconcile", b"");
    assert!(said.as_array().unwrap().len() >= done.as_array().unwrap().len() && done != json!([]), "{said} {done}");
    b.assert_consistent();
}

#[test]
fn unrecorded_links_and_namespaces_of_ciao_are_deleted_and_others_stay() {
    let b = busy();
    let good = b.kernel.state();
    b.kernel.change(|state| {
        for name in ["cv0123456789", "cu0123456789"] {
            state.links.insert((Namespace::Host, name.parse().unwrap()), FakeLink::Other);
        }
        state.namespaces.insert("ciao-gone".to_owned());
        state.rules.insert(Namespace::Named("ciao-gone".to_owned()), [].into());
    });
    let mut expected = good.clone();
    b.kernel.change(|state| {
        for name in ["eth0", "cvpn0", "cv012345678x", "hv"] {
            let key = (Namespace::Host, name.parse().unwrap());
            state.links.insert(key.clone(), FakeLink::Other);
            expected.links.insert(key, FakeLink::Other);
        }
        state.namespaces.insert("other".to_owned());
        expected.namespaces.insert("other".to_owned());
    });
    assert_eq!(b.reconcile().len(), 3);
    assert_eq!(b.kernel.state(), expected);
}

#[test]
fn a_namespace_with_unrecorded_containers_is_left_unchanged() {
    let b = busy();
    let state = b.kernel.state();
    let empty = Bench::new();
    empty.kernel.change(|kernel| *kernel = state.clone());
    empty.reconcile();
    let left = empty.kernel.state();
    assert_eq!(left.namespaces, state.namespaces, "as with a lost database");
}

#[test]
fn an_unused_bridge_of_a_used_namespace_is_deleted() {
    let b = busy();
    let good = b.kernel.state();
    b.kernel.change(|state| {
        let key = (Namespace::Named("ciao-red".to_owned()), "br-left".parse().unwrap());
        state.links.insert(key, FakeLink::Bridge(["10.0.0.1".parse().unwrap()].into()));
    });
    b.reconcile();
    assert_eq!(b.kernel.state(), good);
}

#[test]
fn foreign_links_in_a_tenant_s_namespace_stay() {
    let b = busy();
    let router = (Namespace::Named("ciao-red".into()), "tun0".parse().unwrap());
    b.kernel.change(|state| drop(state.links.insert(router.clone(), FakeLink::Other)));
    assert_eq!(b.reconcile(), [""; 0]);
    assert!(b.kernel.state().links.contains_key(&router));
}

#[test]
fn an_unused_gateway_address_is_removed() {
    let b = busy();
    let good = b.kernel.state();
    b.kernel.change(|state| {
        for link in state.links.values_mut() {
            if let FakeLink::Bridge(addresses) = link {
                addresses.insert("10.0.0.1".parse().unwrap());
            }
        }
    });
    b.reconcile();
    assert_eq!(b.kernel.state(), good);
}

#[test]
fn deleted_links_and_flushed_rules_are_restored() {
    let b = Bench::new();
    let made = b.vnic(&vnic("red", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
    b.ok(
        "CreateNetwork",
        &network("n1", &[SUBNET], &[("tenant", "red"), ("bridge", made["bridge"].as_str().unwrap())]),
    );
    b.ok("CreateNetwork", &network("n2", &["10.0.0.0/24"], &[("tenant", "red")]));
    let good = b.kernel.state();
    for key in good.links.keys() {
        b.kernel.delete_link(&key.0, &key.1).unwrap();
        b.reconcile();
        assert_eq!(b.kernel.state(), good, "{key:?}");
    }
    for namespace in good.rules.keys() {
        b.kernel.change(|state| assert!(state.rules.remove(namespace).is_some()));
        b.reconcile();
        assert_eq!(b.kernel.state(), good, "{namespace}");
    }
    for namespace in &good.namespaces {
        b.kernel.delete_namespace(namespace).unwrap();
        b.reconcile();
        assert_eq!(b.kernel.state(), good, "{namespace}");
    }
}

#[test]
fn what_the_host_routes_is_recorded_for_ciao_ipam() {
    let b = Bench::new();
    let routes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<Subnet>>();
    let recorded = || b.store.read(|tx| tx.host_routes()).unwrap().into_iter().collect::<BTreeSet<_>>();
    for found in [&["10.0.0.0/8", "fd00::/8"][..], &["10.0.0.0/8"], &[]] {
        b.kernel.change(|state| state.routes = routes(found));
        assert_eq!(b.reconcile(), [""; 0]);
        assert_eq!(recorded(), routes(found));
    }
}

pub(super) fn forgotten(endpoint: &str) -> String {
    format!("remove endpoint {}: no container uses its link", &id(endpoint)[..12])
}

#[test]
fn host_rules_come_back_without_a_whole_reconcile() {
    let b = busy();
    let good = b.kernel.state();
    b.kernel.change(|state| assert!(state.rules.remove(&Namespace::Host).is_some()));
    b.driver.watch_firewall().unwrap();
    assert_eq!(b.kernel.state(), good);
}

#[test]
fn a_reconcile_by_command_may_take_longer_than_the_engine_waits() {
    let b = Bench::new();
    assert_eq!(b.answered_within("/v1/reconcile"), (ANSWER_WITHIN, RECONCILE_WITHIN));
    assert_eq!(b.answered_within("/v1/vnics"), (ANSWER_WITHIN, ANSWER_WITHIN));
}
