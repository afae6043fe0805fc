// SPDX-License-Identifier: Apache-2.0
//! Hosts that are dead, were never heard, or left the swarm; and certificates that end.

use std::net::TcpListener;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use ciao_common::store::{TenantList, TenantSubnet};
use ciao_netdriver::kernel::fake::FakeLink;
use ciao_netdriver::reconcile::Depth;
use serde_json::json;

use super::claims::{announced, bench, endpoint, message, networks};
use super::members::Cluster;
use super::soon;

#[test]
fn a_dead_host_keeps_its_mac_address_from_nobody_and_a_live_one_keeps_it() {
    let (cluster, mut members) = bench();
    members[1].run(12);
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    let mac = members[1].bench.store.read(|tx| tx.vnics(None)).unwrap()[0].mac.to_string();
    let claim = endpoint("red", "10.1.0.35", &mac, "10.1.0.0/24", 101);
    cluster.say(3, 1, &message(1, &[claim])).unwrap();
    assert_eq!(members[0].reached(), ["10.1.0.12 h2"]);
    assert_eq!(members[0].refused(), ["10.1.0.35 h3 mac"]);
    members[1].stop();
    // It is asked once more, and then again and again.
    members[0].run(11);
    members[0].soon_reaches(&["10.1.0.35 h3"]);
    assert_eq!(members[0].refused(), ["10.1.0.12 h2 mac"]);
    members[1].start();
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    assert_eq!(members[0].refused(), ["10.1.0.35 h3 mac"]);
}

#[test]
fn a_dead_host_s_later_claim_gives_way_to_a_live_one() {
    let (cluster, mut members) = bench();
    let claim = endpoint("red", "10.1.0.12", "02:00:00:00:03:0c", "10.1.0.0/24", 101);
    cluster.write_files(3, &[1, 2, 3]);
    let (identity, listener) = (cluster.identity(3), TcpListener::bind((cluster.address(3), cluster.port)).unwrap());
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            drop(identity.answer(stream, "h1", |_| Ok(br#"{"has":null}"#.to_vec())));
        }
    });
    soon("it is heard", || cluster.say(3, 1, &message(1, std::slice::from_ref(&claim))).is_ok());
    members[0].soon_reaches(&["10.1.0.12 h3"]);
    members[1].run(12);
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    // The other one still has it, as far as anybody knows, and is all that is left.
    members[1].stop();
    members[0].run(11);
    members[0].soon_reaches(&["10.1.0.12 h3"]);
    assert_eq!(members[0].refused(), ["10.1.0.12 h2 superseded"]);
    members[1].start();
    members[0].soon_reaches(&["10.1.0.12 h2"]);
}

#[test]
fn the_mac_address_of_a_host_that_was_not_heard_is_not_another_s() {
    let cluster = Cluster::new();
    let member = cluster.member(1, &[1, 2, 3]);
    cluster.write_files(2, &[1, 2, 3]);
    cluster.write_files(3, &[1, 2, 3]);
    // It answers, and has said nothing of its own.
    let (identity, listener) = (cluster.identity(2), TcpListener::bind((cluster.address(2), cluster.port)).unwrap());
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            drop(identity.answer(stream, "h1", |_| Ok(br#"{"has":null}"#.to_vec())));
        }
    });
    let given = ("10.1.0.50".parse().unwrap(), "02:00:00:00:03:32".parse().unwrap(), "h2".parse().unwrap());
    let tenant = "red".parse().unwrap();
    let list = TenantList { remotes: vec![given], networks: Vec::new(), cnci: Vec::new() };
    member.bench.store.write(move |tx| tx.give_remotes(&tenant, 1, &list)).unwrap();
    let other = endpoint("red", "10.1.0.51", "02:00:00:00:03:32", "10.1.0.0/24", 101);
    let own = endpoint("red", "10.1.0.52", "02:00:00:00:03:34", "10.1.0.0/24", 101);
    soon("it is heard", || cluster.say(3, 1, &message(1, &[other.clone(), own.clone()])).is_ok());
    assert_eq!(member.reached(), ["10.1.0.50 h2", "10.1.0.52 h3"]);
    assert_eq!(member.refused(), ["10.1.0.51 h3 mac"]);
    // Once it is heard, only what it says counts.
    cluster.say(2, 1, &message(1, &[])).unwrap();
    member.soon_reaches(&["10.1.0.51 h3", "10.1.0.52 h3"]);
}

#[test]
fn what_a_former_controller_gave_of_networks_counts_no_more() {
    let cluster = Cluster::new();
    let member = cluster.member(1, &[1, 2, 3]);
    cluster.write_files(3, &[1, 2, 3]);
    let subnet = |n: u8| TenantSubnet {
        subnet: format!("10.{n}.0.0/24").parse().unwrap(),
        vni: 100 + u32::from(n),
        gateway: [10, n, 0, 1].into(),
        mtu: None,
    };
    let list =
        TenantList { remotes: Vec::new(), networks: vec![subnet(1), subnet(2)], cnci: vec!["h3".parse().unwrap()] };
    let tenant = "red".parse().unwrap();
    member.bench.store.write(move |tx| tx.give_remotes(&tenant, 1, &list)).unwrap();
    let exits = || {
        member.bench.driver.reconcile(Depth::Full);
        assert_eq!(member.bench.driver.reconcile(Depth::Full), []);
        let state = member.bench.kernel.state();
        state.links.values().filter(|link| matches!(link, FakeLink::Vxlan(link) if link.exit.is_some())).count()
    };
    soon("it is heard", || cluster.say(3, 1, &message(1, &[])).is_ok());
    assert_eq!((exits(), networks(&member)), (0, vec!["10.1.0.0/24 docker".to_owned()]));
}

#[test]
fn a_gateway_s_mac_address_is_not_shared() {
    let cluster = Cluster::new();
    let member = cluster.member(1, &[1, 2, 3]);
    let shared = || member.bench.store.read(|tx| tx.tenants_with_shared_claims()).unwrap().len();
    for n in [2, 3] {
        cluster.write_files(n, &[1, 2, 3]);
        let announced = announced("10.9.0.0/24", "10.9.0.1", 109);
        soon("it is heard", || cluster.say(n, 1, &message(1, std::slice::from_ref(&announced))).is_ok());
    }
    assert_eq!(shared(), 0);
    for n in [2, 3] {
        let contested = endpoint("red", &format!("10.1.0.6{n}"), "02:00:00:00:03:60", "10.1.0.0/24", 101);
        cluster.say(n, 1, &message(2, &[contested])).unwrap();
    }
    assert_eq!(shared(), 1);
}

#[test]
fn a_node_that_left_the_swarm_is_refused_though_its_certificate_is_valid() {
    let (cluster, members) = bench();
    members[1].run(12);
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    let node = json!({ "DiscoveryType": 1, "DiscoveryData": { "Address": cluster.address(2), "Self": false } });
    members[0].bench.ok("DiscoverDelete", &node);
    members[0].soon_stands(2, "left the swarm");
    soon("it is refused", || cluster.say(2, 1, &message(1, &[])).is_err());
    members[1].run(14);
    soon("it is counted", || members[0].counted("unlisted") > 0.0);
    members[0].bench.reconcile();
    assert_eq!(members[0].reached(), ["10.1.0.12 h2"], "its containers may run: its addresses stay for a day");
    let mac = members[1].bench.store.read(|tx| tx.vnics(None)).unwrap()[0].mac.to_string();
    cluster.say(3, 1, &message(1, &[endpoint("red", "10.1.0.35", &mac, "10.1.0.0/24", 101)])).unwrap();
    members[0].soon_reaches(&["10.1.0.35 h3"]);
    cluster.say(3, 1, &message(2, &[])).unwrap();
    members[0].bench.ok("DiscoverNew", &node);
    members[0].soon_reaches(&["10.1.0.12 h2", "10.1.0.14 h2"]);
    members[0].soon_stands(2, "in step");

    members[0].bench.ok("DiscoverDelete", &node);
    members[0].soon_stands(2, "left the swarm");
    let store = &members[0].bench.store;
    let has_any = || store.read(|tx| tx.has_gone_peers(i64::MAX)).unwrap();
    assert!(has_any());
    let gone = store.write(|tx| tx.forget_gone_peers(i64::MAX)).unwrap();
    assert!(!has_any(), "nothing is written any more");
    assert_eq!(gone, ["red".parse().unwrap()].into());
    assert_eq!(members[0].bench.store.read(|tx| tx.peer_remotes(&"red".parse().unwrap())).unwrap(), []);
    // Whoever is out of the list is neither gone nor silent, and a connection from before is of no use to it.
    cluster.list(1, &[1, 3]);
    soon("nothing is left of it", || members[0].stands(2).is_empty());
    let (driver, late) =
        (&members[0].bench.driver, message(1, &[endpoint("red", "10.1.0.36", &mac, "10.1.0.0/24", 101)]));
    let error = driver.hear(&"h2".parse().unwrap(), &late).unwrap_err();
    assert_eq!(format!("{error:#}"), "host h2 is in no list of hosts, or left the swarm");
    assert_eq!(members[0].bench.store.read(|tx| tx.peer_remotes(&"red".parse().unwrap())).unwrap(), []);
}

/// Docker reports each once, and not while the plugin is disabled.
#[test]
fn a_node_that_left_is_there_again_when_the_list_changes_or_this_host_s_engine_starts() {
    let (cluster, members) = bench();
    members[1].run(12);
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    let node =
        |n: u8| json!({ "DiscoveryType": 1, "DiscoveryData": { "Address": cluster.address(n), "Self": n == 1 } });
    let leaves = || {
        members[0].bench.ok("DiscoverDelete", &node(2));
        members[0].soon_stands(2, "left the swarm");
    };
    leaves();
    cluster.list(1, &[1, 2]);
    members[0].soon_stands(2, "in step");
    leaves();
    members[0].bench.ok("DiscoverNew", &node(1));
    members[0].soon_stands(2, "in step");
}

#[test]
fn a_certificate_that_ends_soon_is_a_problem_until_it_is_renewed() {
    let cluster = Cluster::new();
    let members = cluster.members(&[1, 2]);
    let problems = || members[0].ask("GET", "/v1/status")["problems"].to_string();
    assert!(!problems().contains("certificate"), "{}", problems());
    let (name, end) = ("ciao_exchange_certificate_end_timestamp_seconds", 4_102_444_800.0);
    soon("it is known when it ends", || members[0].metric(name) == end);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let next_year = i32::try_from(1970 + seconds / 31_556_952).unwrap() + 1;
    let identity = cluster.identity(1);
    cluster.authority.certify(&identity, "h1", next_year);
    soon("it is a problem", || problems().contains("h1.pem ends in "));
    assert!(!problems().contains("no exchange"), "it goes on: {}", problems());
    cluster.authority.certify(&identity, "h1", 2020);
    soon("it is a problem", || problems().contains("h1.pem has ended: renew it"));
    cluster.authority.certify(&identity, "h1", 2100);
    soon("it is none", || !problems().contains("certificate"));
    assert_eq!(members[0].metric(name), end);
}
