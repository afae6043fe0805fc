// SPDX-License-Identifier: Apache-2.0
//! The control sockets of both daemons: lists in pages, and the names that calls are counted under.

use std::time::Duration;

use ciao_common::serve::calls::Calls;
use ciao_common::serve::server::{Handler, Request};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::ports::{binding, free_port, publish};
use crate::requests::{id, network_in};

const SUBNET: &str = "10.9.0.0/24";

/// Tenants red and blue with two networks of a container each; one of red's publishes a port.
fn scene() -> Bench {
    let b = Bench::new();
    for tenant in ["red", "blue"] {
        for (nth, subnet) in [SUBNET, "10.9.1.0/24"].into_iter().enumerate() {
            let (name, pool) = (format!("{tenant}{nth}"), b.pool(subnet, tenant));
            let bridge = format!("br{nth}");
            let options = [("tenant", tenant), ("bridge", bridge.as_str())];
            b.ok("CreateNetwork", &network_in("local", &name, &[subnet], &options));
            b.run(&format!("e{name}"), &name, &b.lease(&pool, ""), "");
        }
    }
    let port = free_port();
    b.ok("ProgramExternalConnectivity", &publish("red0", "ered0", &[binding(6, (port, port), "")]));
    b
}

fn get(b: &Bench, target: &str) -> (u16, Value) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !["/v1/leases", "/v1/pools"].contains(&path) {
        return b.launcher("GET", target, b"");
    }
    let ipam = ciao_ipam::control::routes(b.store.clone());
    let reply = ipam.handle(Request { method: "GET", path, query, body: b"" });
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

fn items(b: &Bench, target: &str) -> Vec<Value> {
    let (status, reply) = get(b, target);
    assert_eq!((status, &reply["next"]), (200, &Value::Null), "{target}: {reply}");
    reply["items"].as_array().unwrap().clone()
}

#[test]
fn lists_have_whole_ids_times_with_their_zone_and_filters() {
    let b = scene();
    for (target, count) in [
        ("networks", 4),
        ("networks?tenant=red", 2),
        ("endpoints", 4),
        (&format!("endpoints?network={}", id("red0")), 1),
        ("endpoints?tenant=blue&network=red0", 0),
        ("ports", 1),
        ("ports?tenant=blue", 0),
        ("pools", 4),
        ("pools?subnet=10.9.1.0%2F24", 2),
        ("leases?tenant=red", 4),
        ("leases?state=bound", 4),
        ("leases?state=reserved", 0),
    ] {
        let found = items(&b, &format!("/v1/{target}"));
        assert_eq!(found.len(), count, "{target}: {found:?}");
    }
    let network = &items(&b, "/v1/networks?tenant=red")[0];
    assert_eq!((&network["id"], &network["subnets"]), (&json!(id("red0")), &json!([SUBNET])));
    let made = network["created"].as_str().unwrap();
    assert!(made.len() == 20 && made.ends_with('Z') && made.as_bytes()[10] == b'T', "{made}");
    let lease = &items(&b, "/v1/leases?tenant=red&state=bound")[0];
    assert_eq!((&lease["endpoint"], &lease["network"]), (&json!(id("ered0")), &json!(id("red0"))));
    assert_eq!(items(&b, "/v1/pools?tenant=blue")[0]["leases"], 2);
}

#[test]
fn pages_have_each_item_once_while_others_come_and_go() {
    let b = scene();
    for list in ["networks", "endpoints", "pools", "leases"] {
        let whole = items(&b, &format!("/v1/{list}"));
        let (mut seen, mut target) = (Vec::new(), format!("/v1/{list}?limit=1"));
        loop {
            let (status, page) = get(&b, &target);
            assert_eq!((status, page["items"].as_array().unwrap().len()), (200, 1), "{target}: {page}");
            seen.push(page["items"][0].clone());
            let Some(next) = page["next"].as_str() else { break };
            target = format!("/v1/{list}?limit=1&after={next}");
        }
        assert_eq!(seen, whole, "{list}");
    }
    let (_, first) = get(&b, "/v1/endpoints?limit=2");
    b.ok("DeleteEndpoint", &crate::requests::names_of("blue0", "eblue0"));
    let rest = items(&b, &format!("/v1/endpoints?after={}", first["next"].as_str().unwrap()));
    let ids: Vec<_> = rest.iter().map(|endpoint| endpoint["id"].clone()).collect();
    assert_eq!(ids, [json!(id("ered0")), json!(id("ered1"))]);
    for wrong in ["limit=0", "limit=10001", "limit=x", "after=xyz", "after=", "after=%C3%A4", "pages=1", "state=x"] {
        let (status, reply) = get(&b, &format!("/v1/leases?{wrong}"));
        assert!(status == 400 && reply["error"].is_string(), "{wrong}: {status} {reply}");
    }
    for foreign in [first["next"].as_str().unwrap(), "00"] {
        let (status, reply) = get(&b, &format!("/v1/leases?after={foreign}"));
        assert!(status == 422 && reply["error"].is_string(), "{foreign}: {status} {reply}");
    }
}

#[test]
fn every_documented_call_is_counted_under_a_name_of_its_own() {
    let b = Bench::new();
    let ipam = ciao_ipam::control::routes(b.store.clone());
    let both = [
        (Calls::new("control", b.control.methods()), b.control.document()),
        (Calls::new("control", ipam.methods()), ipam.document()),
    ];
    for (calls, document) in both {
        let described: Value = serde_json::from_slice(&document).unwrap();
        for (path, methods) in described["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                calls.add(&method.to_uppercase(), path, 200, Duration::ZERO);
            }
        }
        for (name, counts) in calls.methods() {
            assert_eq!(counts.outcomes()[0] > 0, name != "other", "{name}");
        }
    }
}
