// SPDX-License-Identifier: Apache-2.0
//! What a host that was broken into says: refused one by one, and never at another host's cost.

use std::collections::BTreeSet;

use ciao_common::store::{HostEndpoint, list_of_endpoints};
use ciao_common::types::MacAddr;
use ciao_netdriver::exchange::MOST_ENDPOINTS;
use ciao_netdriver::reconcile::Depth;
use serde_json::{Value, json};

use super::members::{Cluster, Member};
use super::soon;

/// A host with a daemon, another one, and a third that says what it likes.
pub(super) fn bench() -> (Cluster, Vec<Member>) {
    let cluster = Cluster::new();
    let members = vec![cluster.member(1, &[1, 2, 3]), cluster.member(2, &[1, 2, 3])];
    cluster.write_files(3, &[1, 2, 3]);
    (cluster, members)
}

pub(super) fn endpoint(tenant: &str, address: &str, mac: &str, subnet: &str, vni: u32) -> HostEndpoint {
    (tenant.parse().unwrap(), address.parse().unwrap(), mac.parse().unwrap(), subnet.parse().unwrap(), vni)
}

/// Of tenant red, in its network.
fn red(n: u8) -> HostEndpoint {
    endpoint("red", &format!("10.1.0.{n}"), &format!("02:00:00:00:03:{n:02x}"), "10.1.0.0/24", 101)
}

pub(super) fn message(generation: u64, endpoints: &[HostEndpoint]) -> Vec<u8> {
    let list: BTreeSet<_> = endpoints.iter().cloned().collect();
    json!({ "own": list_of_endpoints(generation, &list), "endpoints": list }).to_string().into_bytes()
}

#[test]
fn claims_are_refused_one_by_one_and_the_others_hold() {
    let (cluster, members) = bench();
    members[0].network("blue", "10.2.0.0/24", "102");
    members[0].run(11);
    members[1].run(12);
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    let mac = members[0].bench.store.read(|tx| tx.vnics(None)).unwrap()[0].mac.to_string();
    let second = members[1].bench.store.read(|tx| tx.vnics(None)).unwrap()[0].mac.to_string();
    let namespace = "ciao-red";
    let bridge = members[0].bench.store.read(|tx| tx.networks()).unwrap();
    let bridge = bridge.iter().find(|network| network.namespace.as_deref() == Some(namespace)).unwrap().bridge.clone();
    let bridge = ciao_netdriver::names::bridge_mac(namespace, &bridge).to_string();
    let forged = [
        (endpoint("red", "10.1.0.11", "02:00:00:00:03:0b", "10.1.0.0/24", 101), "10.1.0.11", "own"),
        (endpoint("red", "10.1.0.31", &mac, "10.1.0.0/24", 101), "10.1.0.31", "own"),
        (endpoint("red", "10.1.0.1", "02:00:00:00:03:01", "10.1.0.0/24", 101), "10.1.0.1", "gateway"),
        (endpoint("red", "10.1.0.32", &bridge, "10.1.0.0/24", 101), "10.1.0.32", "gateway"),
        (endpoint("red", "10.1.0.33", "02:00:00:00:03:21", "10.1.0.0/24", 999), "10.1.0.33", "network"),
        (endpoint("red", "10.1.0.34", "02:00:00:00:03:22", "10.1.0.0/16", 101), "10.1.0.34", "network"),
        (endpoint("red", "10.9.0.2", "02:00:00:00:03:23", "10.9.0.0/24", 101), "10.9.0.2", "network"),
        (endpoint("red", "10.3.0.2", "02:00:00:00:03:24", "10.3.0.0/24", 102), "10.3.0.2", "network"),
        (endpoint("red", "10.1.0.35", &second, "10.1.0.0/24", 101), "10.1.0.35", "mac"),
    ];
    for (generation, (claim, address, reason)) in (1_u64..).zip(forged) {
        let before = members[0].counted(reason);
        let answer = cluster.say(3, 1, &message(generation, &[claim, red(40)])).unwrap();
        assert_eq!(answer["has"]["generation"], json!(generation), "recorded, and judged when it is used");
        let refused = members[0].refused();
        assert!(refused.len() == 1 && refused[0].starts_with(&format!("{address} h3 ")), "{refused:?}");
        assert!(members[0].counted(reason) > before, "{reason}");
        assert_eq!(members[0].reached(), ["10.1.0.12 h2", "10.1.0.40 h3"], "{address}");
        assert_eq!(members[0].bench.driver.reconcile(Depth::Full), []);
    }
    // Another tenant's name in a VNI of this host's.
    let claim = endpoint("green", "10.1.0.50", "02:00:00:00:03:32", "10.1.0.0/24", 101);
    cluster.say(3, 1, &message(20, &[claim])).unwrap();
    let reply = members[0].ask("GET", "/v1/tenants/green/remotes");
    assert_eq!((&reply["remotes"], reply["refused"].as_array().unwrap().len()), (&json!([]), 1));
    assert_eq!(members[0].reached(), ["10.1.0.12 h2"]);
    let problems = members[0].ask("GET", "/v1/status")["problems"].to_string();
    assert!(
        !problems.contains("announced 10.1.0.50"),
        "a claim may be refused for a moment, as an address moves: {problems}"
    );
}

#[test]
fn an_answer_does_not_wait_for_the_kernel() {
    let (cluster, members) = bench();
    soon("it is heard", || cluster.say(3, 1, &message(1, &[])).is_ok());
    // Whoever uses the kernel waits for this.
    members[0].bench.kernel.change(|_| {
        let answer = cluster.say(3, 1, &message(2, &[red(40)])).unwrap();
        assert_eq!(answer["has"]["generation"], 2);
    });
    let follows = || members[0].bench.kernel.state().neighbours.keys().any(|(.., at)| at.to_string() == "10.1.0.40");
    soon("it is in the kernel", follows);
}

#[test]
fn another_host_s_address_goes_to_the_later_claim_and_comes_back() {
    let (cluster, members) = bench();
    members[1].run(12);
    members[0].soon_reaches(&["10.1.0.12 h2"]);
    cluster.say(3, 1, &message(1, &[red(12)])).unwrap();
    assert_eq!(members[0].reached(), ["10.1.0.12 h3"]);
    assert_eq!(members[0].refused(), ["10.1.0.12 h2 superseded"]);
    let metrics = || {
        [
            "remotes{host=\"h3\"}",
            "generation{host=\"h3\"}",
            "rejected{reason=\"superseded\"}",
            "rejected{reason=\"mac\"}",
        ]
        .map(|name| members[0].metric(&format!("ciao_exchange_{name}")))
    };
    assert_eq!(metrics(), [1.0, 1.0, 1.0, 0.0]);
    assert!(members[0].metric("ciao_exchange_list_timestamp_seconds{host=\"h3\"}") > 1.6e9);
    cluster.say(3, 1, &message(2, &[])).unwrap();
    assert_eq!((members[0].reached(), members[0].refused()), (vec!["10.1.0.12 h2".to_owned()], Vec::new()));
    assert_eq!(metrics(), [0.0, 2.0, 0.0, 0.0]);
}

#[test]
fn a_message_that_is_none_is_refused_and_changes_nothing() {
    let (cluster, members) = bench();
    cluster.say(3, 1, &message(5, &[red(40)])).unwrap();
    let good: Value = serde_json::from_slice(&message(6, &[red(41)])).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut message = good.clone();
        change(&mut message);
        message.to_string().into_bytes()
    };
    let outside = endpoint("red", "10.2.0.5", "02:00:00:00:03:05", "10.1.0.0/24", 101);
    let twice = endpoint("red", "10.1.0.41", "02:00:00:00:03:06", "10.1.0.0/24", 101);
    let many: Vec<_> = (0..=MOST_ENDPOINTS)
        .map(|n| endpoint("red", &format!("10.1.{}.{}", n / 256, n % 256), "02:00:00:00:03:05", "10.1.0.0/16", 101))
        .collect();
    for (bad, expected) in [
        (b"no json".to_vec(), "not JSON"),
        (b"[]".to_vec(), "expected an object"),
        (with(&|message| message["owner"] = json!("h1")), "unknown field `owner`"),
        (with(&|message| message["endpoints"][0][1] = json!("10.1.0.42")), "digest"),
        (with(&|message| message["endpoints"][0][2] = json!("01:00:5e:00:00:01")), "MAC"),
        (with(&|message| message["own"]["generation"] = json!(u64::MAX)), "generation"),
        (with(&|message| message["own"]["generation"] = json!(-1)), "-1"),
        (with(&|message| message["own"]["digest"] = json!("\n<0>panic")), "16 hexadecimal digits"),
        (with(&|message| message["yours"] = json!({ "generation": 1, "digest": "1" })), "16 hexadecimal digits"),
        (with(&|message| message["a\nb"] = json!(1)), "unknown field `a b`"),
        (message(6, &[outside]), "10.2.0.5 of tenant red is not in subnet 10.1.0.0/24"),
        (message(6, &[red(41), twice]), "10.1.0.41 of tenant red is listed twice"),
        (message(6, &[endpoint("red", "10.1.0.41", "02:00:00:00:03:05", "10.1.0.0/24", 0)]), "VNI 0"),
        (message(6, &many), "at most 10000 are accepted"),
    ] {
        let answer = cluster.say(3, 1, &bad).unwrap();
        assert!(answer["refused"].as_str().unwrap().contains(expected), "{expected}: {answer}");
    }
    assert_eq!(members[0].counted("message"), 14.0);
    assert!(cluster.say(3, 1, &vec![b' '; 5 << 20]).is_err(), "more than a message may have");
    assert_eq!(members[0].reached(), ["10.1.0.40 h3"]);
    // An older list is not recorded, and the sender learns which one is.
    let answer = cluster.say(3, 1, &message(4, &[])).unwrap();
    assert_eq!(answer["has"]["generation"], 5);
    assert_eq!(members[0].reached(), ["10.1.0.40 h3"]);
}

#[test]
fn a_controller_s_lists_are_refused_where_hosts_tell_each_other() {
    let (_cluster, members) = bench();
    let put = |path: &str, body: Value| members[0].bench.launcher("PUT", path, body.to_string().as_bytes());
    for (status, reply) in [
        put("/v1/hosts", json!({ "generation": 99, "hosts": [] })),
        put("/v1/tenants/red/remotes", json!({ "generation": 99, "remotes": [] })),
    ] {
        let error = reply["error"].as_str().unwrap();
        assert!(status == 409 && error.contains("h1-hosts") && error.contains("without --exchange"), "{reply}");
    }
    assert_eq!(members[0].ask("GET", "/v1/hosts")["hosts"].as_array().unwrap().len(), 3);
}

#[test]
fn without_the_exchange_what_hosts_said_is_forgotten() {
    let (cluster, mut members) = bench();
    cluster.say(3, 1, &message(1, &[red(40)])).unwrap();
    let first = members.remove(0);
    assert_eq!(first.reached(), ["10.1.0.40 h3"]);
    let bench = first.into_bench().restarted();
    bench.reconcile();
    assert_eq!(bench.store.read(|tx| tx.view("remote", None)).unwrap(), []);
    assert!(!bench.kernel.state().neighbours.keys().any(|(.., address)| address.to_string() == "10.1.0.40"));
}

/// A network's announcement: its gateway.
pub(super) fn announced(subnet: &str, gateway: &str, vni: u32) -> HostEndpoint {
    endpoint("red", gateway, &MacAddr::gateway(vni).to_string(), subnet, vni)
}

/// The networks of tenant red, with their source.
pub(super) fn networks(member: &Member) -> Vec<String> {
    member.bench.driver.follow_lists();
    let page = member.ask("GET", "/v1/networks?tenant=red");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let items = page["items"].as_array().unwrap();
    let mut lines: Vec<_> =
        items.iter().map(|item| format!("{} {}", text(&item["subnets"][0]), text(&item["source"]))).collect();
    lines.sort();
    lines
}

#[test]
fn hosts_route_to_the_networks_that_others_announce() {
    let (cluster, members) = bench();
    members[1].network("red", "10.2.0.0/24", "102");
    let both = ["10.1.0.0/24 docker", "10.2.0.0/24 other hosts"];
    soon("the network is announced", || networks(&members[0]) == both);
    members[1].bench.run("two", "red102", "10.2.0.12/24", "");
    members[0].soon_reaches(&["10.2.0.12 h2"]);
    assert_eq!(members[0].bench.driver.reconcile(Depth::Full), []);
    assert_eq!(members[0].refused(), [""; 0], "a gateway is no claim");
    // The operator's own network, which this host reaches otherwise.
    let problem = |subnet: &str, why: &str| {
        let problems = members[0].ask("GET", "/v1/status")["problems"].to_string();
        let found = format!("subnet {subnet} of tenant red, which host h3 announces, is not routed to: {why} (0 more)");
        assert!(problems.contains(&found), "{problems}");
    };
    cluster.say(3, 1, &message(1, &[announced("172.20.0.0/16", "172.20.0.1", 7000)])).unwrap();
    assert_eq!(networks(&members[0]), both);
    problem("172.20.0.0/16", "no --exchange-subnet of this host has it");
    cluster.say(3, 1, &message(2, &[announced("10.1.0.0/25", "10.1.0.1", 104)])).unwrap();
    problem("10.1.0.0/25", "it overlaps another one of the tenant here");
    cluster.say(3, 1, &message(3, &[announced("10.4.0.0/24", "10.4.0.1", 101)])).unwrap();
    assert_eq!(networks(&members[0]), both);
    problem("10.4.0.0/24", "another network here has its VNI 101 or bridge");
    // What does not fit, or is not allowed, is not routed to.
    let forged = [
        announced("10.3.0.0/24", "10.3.0.1", 103),
        announced("10.1.0.0/25", "10.1.0.1", 104),
        announced("10.4.0.0/24", "10.4.0.1", 101),
        announced("198.51.100.0/24", "198.51.100.1", 105),
        announced("0.0.0.0/0", "10.9.0.1", 106),
        announced("192.168.0.0/13", "192.170.0.1", 110),
        announced("169.254.169.0/24", "169.254.169.1", 107),
        endpoint("red", "10.5.0.1", &MacAddr::gateway(109).to_string(), "10.5.0.0/24", 108),
    ];
    cluster.say(3, 1, &message(4, &forged)).unwrap();
    assert_eq!(networks(&members[0]), [both[0], both[1], "10.3.0.0/24 other hosts"]);
    let many: Vec<_> =
        (0..40).map(|n| announced(&format!("10.6.{n}.0/24"), &format!("10.6.{n}.1"), 1000 + n)).collect();
    cluster.say(3, 1, &message(5, &many)).unwrap();
    assert_eq!(networks(&members[0]).len(), 1 + 32, "its own, and so many of others");
    // With what announces it, it goes.
    cluster.say(3, 1, &message(6, &[])).unwrap();
    assert_eq!(networks(&members[0]), both);
    members[1].bench.stop("red102", "two");
    members[1].bench.ok("DeleteNetwork", &json!({ "NetworkID": crate::requests::id("red102") }));
    // First its record goes, then what it had in the kernel.
    soon("the network is withdrawn", || {
        networks(&members[0]) == both[..1] && members[0].bench.driver.reconcile(Depth::DryRun).is_empty()
    });
}
