// SPDX-License-Identifier: Apache-2.0
//! A concentrator on another host is a tenant's egress gateway.

use ciao_netdriver::kernel::fake::FakeLink;
use ciao_netdriver::reconcile::Depth;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::remote_networks::{assert_consistent, with_hosts};
use crate::requests::{id, network};

fn give(b: &Bench, generation: u64, cnci: &[&str]) -> (u16, Value) {
    let subnet = |n: u8| json!({ "subnet": format!("10.{n}.0.0/24"), "vni": 100 + u32::from(n), "gateway": format!("10.{n}.0.1") });
    let body = json!({ "generation": generation, "remotes": [], "networks": [subnet(1), subnet(2)], "cnci": cnci });
    b.launcher("PUT", "/v1/tenants/red/remotes", body.to_string().as_bytes())
}

/// The addresses of the hosts by which each tunnel's network leaves, in the order of VNIs.
fn exits(b: &Bench) -> Vec<Option<String>> {
    let state = b.kernel.state();
    let mut found: Vec<_> = state
        .links
        .values()
        .filter_map(|link| if let FakeLink::Vxlan(link) = link { Some((link.vni, link.exit)) } else { None })
        .map(|(vni, exit)| (vni, exit.map(|number| state.tunnel_hosts[&number].to_string())))
        .collect();
    found.sort();
    found.into_iter().map(|(_, exit)| exit).collect()
}

#[test]
fn a_tenant_leaves_by_the_first_concentrator_of_the_list_that_is_a_host() {
    let b = with_hosts();
    for (name, tenant, subnet, vni) in [
        ("red", "red", "10.1.0.0/24", "101"),
        ("own", "red", "10.7.0.0/24", "107"),
        ("blue", "blue", "10.1.0.0/24", "201"),
    ] {
        b.ok("CreateNetwork", &network(name, &[subnet], &[("tenant", tenant), ("vni", vni)]));
    }
    let way = |first: Option<&str>| vec![first.map(str::to_owned), first.map(str::to_owned), None, None];
    for (generation, cnci, first) in [
        (1, &["h2", "h3"][..], Some("192.0.2.2")),
        (2, &["h3", "h2"], Some("192.0.2.3")),
        (3, &["h9", "h2"], Some("192.0.2.2")),
        (4, &["h1", "h2"], None),
        (5, &["h9"], None),
        (6, &["h2"], Some("192.0.2.2")),
    ] {
        assert_eq!(give(&b, generation, cnci).0, 200);
        assert_eq!(exits(&b), way(first), "{cnci:?}: 101 and 102 alone, which the concentrator has too");
        assert_consistent(&b);
        let (_, shown) = b.launcher("GET", "/v1/tenants/red/remotes", b"");
        assert_eq!(shown["cnci"], json!(cnci));
    }
    let rules = |b: &Bench| b.kernel.state().tunnel_rules.into_iter().collect::<String>();
    for part in [
        "concentrators { 192.0.2.2 . 0x000065 }",
        "concentrators { 192.0.2.2 . 0x000066 }",
        "@th,96,24 0x65 @th,224,16 0x0800 @th,336,32 0xa020000-0xa0200ff return",
    ] {
        assert!(rules(&b).contains(part), "{part}: {}", rules(&b));
    }
    // Without that host in the list, or as the list of concentrators ends, each leaves by its own host.
    let host = |n: u8| json!({ "id": format!("h{n}"), "address": format!("192.0.2.{n}") });
    let hosts = |generation: u64, hosts: Value| {
        let body = json!({ "generation": generation, "hosts": hosts }).to_string();
        assert_eq!(b.launcher("PUT", "/v1/hosts", body.as_bytes()).0, 200);
    };
    hosts(2, json!([host(1), host(3)]));
    assert_eq!(exits(&b), way(None));
    hosts(3, json!([host(1), host(2), host(3)]));
    assert_eq!(exits(&b), way(Some("192.0.2.2")));
    assert_eq!(give(&b, 7, &[]).0, 200);
    assert_eq!(exits(&b), way(None));
    assert!(!rules(&b).contains("add element inet ciao_tunnel concentrators") && !rules(&b).contains("@th,336,32 0xa"));
    assert_consistent(&b);
}

#[test]
fn a_concentrator_has_the_tenant_s_networks_without_any_of_docker_s() {
    let b = with_hosts();
    let networks = |b: &Bench| b.launcher("GET", "/v1/networks", b"").1["items"].as_array().unwrap().len();
    assert_eq!(give(&b, 1, &["h2"]).0, 200);
    assert_eq!(networks(&b), 0);
    for standby in [&["h1"][..], &["h2", "h1"]] {
        let generation = 1 + standby.len() as u64;
        assert_eq!(give(&b, generation, standby).0, 200);
        assert_eq!(networks(&b), 2);
        assert_consistent(&b);
    }
    let b = b.restarted();
    b.driver.reconcile(Depth::Full);
    assert_eq!((networks(&b), exits(&b)), (2, vec![Some("192.0.2.2".to_owned()); 2]));
    // Docker's last network of the tenant here leaves them.
    b.ok("CreateNetwork", &network("red", &["10.1.0.0/24"], &[("tenant", "red"), ("vni", "101")]));
    b.ok("DeleteNetwork", &json!({ "NetworkID": id("red") }));
    assert_eq!(networks(&b), 2);
    assert_eq!(give(&b, 4, &["h2"]).0, 200);
    assert_eq!((networks(&b), b.kernel.state().namespaces.len()), (0, 0));
    assert_consistent(&b);
}

#[test]
fn a_concentrator_whose_address_is_away_keeps_the_tenant_s_networks() {
    let b = with_hosts();
    assert_eq!(give(&b, 1, &["h1"]).0, 200);
    assert_consistent(&b);
    let recorded = |b: &Bench| b.launcher("GET", "/v1/networks", b"").1["items"].clone();
    let (whole, networks) = (b.kernel.state(), recorded(&b));
    assert_eq!(networks.as_array().unwrap().len(), 2);
    let addresses = |b: &Bench, now: &[_]| b.kernel.change(|state| state.addresses = now.to_vec());
    // As at a boot, before the link has its address.
    addresses(&b, &[]);
    let b = b.restarted();
    assert!(b.driver.reconcile(Depth::Full).iter().all(|row| row.error.is_none()));
    assert_eq!((recorded(&b), b.kernel.state().uplinks), (networks, whole.uplinks.clone()));
    addresses(&b, &whole.addresses);
    b.driver.reconcile(Depth::Changed);
    assert_eq!(b.kernel.state(), whole);
    // One that was none has nothing, and is one as soon as its address is there.
    assert_eq!(give(&b, 2, &[]).0, 200);
    addresses(&b, &[]);
    assert_eq!(give(&b, 3, &["h1"]).0, 200);
    assert_eq!(recorded(&b), json!([]));
    addresses(&b, &whole.addresses);
    b.driver.reconcile(Depth::Changed);
    assert_eq!(recorded(&b).as_array().unwrap().len(), 2);
    // Whatever is at its address now, another list ends it.
    addresses(&b, &[]);
    assert_eq!(give(&b, 4, &[]).0, 200);
    assert_eq!((recorded(&b), b.kernel.state().namespaces.len()), (json!([]), 0));
}

#[test]
fn a_dead_concentrator_is_replaced_by_the_next_one_until_it_answers() {
    let b = with_hosts();
    b.ok("CreateNetwork", &network("red", &["10.1.0.0/24"], &[("tenant", "red"), ("vni", "101")]));
    assert_eq!(give(&b, 1, &["h2", "h3"]).0, 200);
    let silent = |b: &Bench, hosts: &[u8]| {
        let hosts = hosts.iter().map(|n| [192, 0, 2, *n].into()).collect();
        b.kernel.change(|state| state.silent = hosts);
    };
    let after = |b: &Bench, probes: usize| {
        (0..probes).for_each(|_| b.driver.probe_concentrators().unwrap());
        assert_consistent(b);
        exits(b)[0].clone().unwrap()
    };
    let problems = |b: &Bench| {
        let problems = b.launcher("GET", "/v1/status", b"").1["problems"].to_string();
        ["concentrator h2 of tenant red (0 more) does", "no concentrator of tenant red (0 more)"]
            .map(|text| problems.contains(text))
    };
    let [second, third] = [2, 3].map(|n| format!("192.0.2.{n}"));
    assert_eq!((after(&b, 9), problems(&b)), (second.clone(), [false, false]));
    silent(&b, &[2]);
    assert_eq!((after(&b, 2), problems(&b)), (second.clone(), [false, false]), "a lost packet is no death");
    assert_eq!((after(&b, 1), problems(&b)), (third.clone(), [true, false]));
    // As recorded, whatever happens to the daemon.
    let b = b.restarted();
    b.driver.reconcile(Depth::Full);
    assert_eq!(after(&b, 0), third);
    // Where none answers, packets leave by none, and not by their own host.
    silent(&b, &[2, 3]);
    assert_eq!((after(&b, 3), problems(&b)), (second.clone(), [false, true]));
    silent(&b, &[2]);
    assert_eq!((after(&b, 5), problems(&b)), (third.clone(), [true, false]));
    silent(&b, &[]);
    assert_eq!((after(&b, 4), after(&b, 1), problems(&b)), (third, second, [false, false]));
}

#[test]
fn concentrators_that_cannot_be_are_refused() {
    let b = with_hosts();
    let refused = |body: Value| {
        let (status, reply) = b.launcher("PUT", "/v1/tenants/red/remotes", body.to_string().as_bytes());
        assert_eq!(status, 422, "{reply}");
        reply["error"].as_str().unwrap().to_owned()
    };
    let subnet = json!({ "subnet": "10.1.0.0/24", "vni": 101, "gateway": "10.1.0.1" });
    let twice = json!({ "generation": 1, "remotes": [], "networks": [subnet], "cnci": ["h2", "h2"] });
    assert!(refused(twice).contains("h2 is given twice"));
    assert!(refused(json!({ "generation": 1, "remotes": [], "cnci": ["h2"] })).contains("networks too"));
}
