// SPDX-License-Identifier: Apache-2.0
//! Who had which address and host port when, as `GET /v1/events` tells.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::bench::Bench;
use crate::ports::{binding, free_port, publish};
use crate::requests::{endpoint, names_of, network, vnic};

const SUBNET: &str = "192.168.111.0/24";

/// Kind, tenant, instance, address and host port of each event.
fn events(b: &Bench, query: &str) -> Vec<String> {
    let shown = |event: &Value| {
        let text = |key: &str| event[key].as_str().unwrap_or("-").to_owned();
        let port = event["host_port"].as_u64().map_or(String::new(), |port| format!(" {port}"));
        format!("{} {} {} {}{port}", text("kind"), text("tenant"), text("instance"), text("address"))
    };
    b.events(query).iter().map(shown).collect()
}

#[test]
fn a_container_s_addresses_and_ports_are_told_from_attach_to_detach() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("red", &[SUBNET], &[("tenant", "red")]));
    b.ok("CreateNetwork", &network("blue", &[SUBNET], &[("tenant", "blue")]));
    b.vnic(&vnic("red", "web", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
    assert_eq!(b.events(""), [] as [Value; 0], "a VNIC that no container has");
    b.run("red1", "red", "192.168.111.2/24", "");
    // A call repeated because its reply was lost is no second event.
    b.ok("CreateEndpoint", &endpoint("red1", "red", "192.168.111.2/24", ""));
    b.run("blue1", "blue", "192.168.111.2/24", "");
    let port = free_port();
    b.ok("ProgramExternalConnectivity", &publish("red", "red1", &[binding(6, (port, port), "")]));
    b.stop("red", "red1");
    b.ok("DeleteEndpoint", &names_of("red", "red1"));
    let red = [
        "attach red web 192.168.111.2".to_owned(),
        format!("publish red web 192.168.111.2 {port}"),
        format!("revoke red web 192.168.111.2 {port}"),
        "detach red web 192.168.111.2".to_owned(),
    ];
    assert_eq!(events(&b, "tenant=red"), red);
    assert_eq!(events(&b, ""), [&red[..1], &["attach blue - 192.168.111.2".to_owned()], &red[1..]].concat());
    assert_eq!(events(&b, "since=now"), [""; 0]);
    assert_eq!(events(&b, "since=2020-01-01T00%3A00%3A00%2B01:00&tenant=blue").len(), 1);
    let event = &b.events("")[0];
    assert_eq!(event["endpoint"].as_str().unwrap().len(), 64);
    let (_, document) = b.launcher("GET", "/v1/openapi.json", b"");
    let described = document.pointer("/components/schemas/Event/properties").unwrap().as_object().unwrap();
    assert_eq!(event.as_object().unwrap().keys().collect::<BTreeSet<_>>(), described.keys().collect());
}

#[test]
fn an_endpoint_that_cannot_be_made_was_attached_and_detached() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("red", &[SUBNET], &[("tenant", "red")]));
    b.run("first", "red", "192.168.111.2/24", "");
    b.kill_containers();
    b.ok("CreateEndpoint", &endpoint("second", "red", "192.168.111.2/24", ""));
    let kinds: Vec<_> = events(&b, "").into_iter().map(|event| event.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["attach", "detach", "attach"], "the first one's container no longer exists");
}

#[test]
fn a_parameter_that_is_not_valid_is_refused() {
    let b = Bench::new();
    for (query, named) in [("since=yesterday", "yesterday"), ("tenat=red", "tenat"), ("follow=yes", "follow=yes")] {
        let (status, reply) = b.launcher("GET", &format!("/v1/events?{query}"), b"");
        assert!(status == 400 && reply["error"].as_str().unwrap().contains(named), "{status} {reply}");
    }
    let held: Vec<_> = (0..32).map(|_| b.follow()).collect();
    let (status, reply) = b.launcher("GET", "/v1/events?follow=1", b"");
    assert!(status == 503 && reply["error"].as_str().unwrap().contains("32 clients"), "{reply}");
    drop(held);
    b.follow();
}

#[test]
fn a_follower_is_told_what_comes() {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("red", &[SUBNET], &[("tenant", "red")]));
    b.run("red1", "red", "192.168.111.2/24", "");
    let mut lines = b.follow();
    let mut next = || {
        let (text, position) = (lines.read)(lines.start).unwrap().unwrap();
        lines.start = position;
        String::from_utf8(text).unwrap()
    };
    assert_eq!(next(), "", "only those to come");
    b.stop("red", "red1");
    let text = next();
    assert!(text.contains("\"detach\"") && text.ends_with("}\n") && text.lines().count() == 1, "{text}");
    assert_eq!(next(), "");
}
