// SPDX-License-Identifier: Apache-2.0
//! A tenant's networks on other hosts: routed to where the tenant has another one.

use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::{FakeLink, consistency};
use ciao_netdriver::reconcile::{Depth, Known};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{id, network};

/// A host at 192.0.2.1 with h2 and h3 at .2 and .3.
pub(crate) fn with_hosts() -> Bench {
    let b = Bench::new();
    b.kernel.change(|state| state.addresses.push(("192.0.2.0/24".parse().unwrap(), [192, 0, 2, 1].into())));
    let host = |n: u8| json!({ "id": format!("h{n}"), "address": format!("192.0.2.{n}") });
    let hosts = json!({ "generation": 1, "hosts": [host(1), host(2), host(3)] });
    assert_eq!(b.launcher("PUT", "/v1/hosts", hosts.to_string().as_bytes()).0, 200);
    b
}

/// The same, with subnet 10.1.0.0/24 of red and of blue.
fn bench() -> Bench {
    let b = with_hosts();
    for (tenant, vni) in [("red", "101"), ("blue", "201")] {
        b.ok("CreateNetwork", &network(tenant, &["10.1.0.0/24"], &[("tenant", tenant), ("vni", vni)]));
    }
    b
}

fn subnet(n: u8, vni: u32) -> Value {
    json!({ "subnet": format!("10.{n}.0.0/24"), "vni": vni, "gateway": format!("10.{n}.0.1") })
}

fn give(b: &Bench, tenant: &str, generation: u64, networks: &[Value]) -> (u16, Value) {
    let remotes = json!([["10.1.0.12", "02:00:00:00:01:0c", "h2"], ["10.2.0.12", "02:00:00:00:02:0c", "h2"]]);
    let body = json!({ "generation": generation, "remotes": remotes, "networks": networks });
    b.launcher("PUT", &format!("/v1/tenants/{tenant}/remotes"), body.to_string().as_bytes())
}

/// Tenant, subnets and source of each network.
fn listed(b: &Bench) -> Vec<String> {
    let (_, page) = b.launcher("GET", "/v1/networks", b"");
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    let line = |item: &Value| {
        let source = text(item, "source");
        format!("{} {} {source}", text(item, "tenant"), item["subnets"][0].as_str().unwrap())
    };
    let mut lines: Vec<_> = page["items"].as_array().unwrap().iter().map(line).collect();
    lines.sort();
    lines
}

fn vnis(b: &Bench) -> Vec<u32> {
    let state = b.kernel.state();
    let vni = |link: &FakeLink| if let FakeLink::Vxlan(link) = link { Some(link.vni) } else { None };
    let mut vnis: Vec<_> = state.links.values().filter_map(vni).collect();
    vnis.sort_unstable();
    vnis
}

pub(crate) fn assert_consistent(b: &Bench) {
    assert_eq!(consistency::differences(&b.store, &b.kernel.state()).unwrap(), [""; 0]);
    assert_eq!(b.driver.reconcile(Depth::Full), []);
}

const OWN: [&str; 2] = ["blue 10.1.0.0/24 docker", "red 10.1.0.0/24 docker"];

#[test]
fn a_host_routes_to_a_tenant_s_subnets_on_other_hosts() {
    let b = bench();
    let before = b.kernel.state();
    let (status, state) = give(&b, "red", 1, &[subnet(1, 101), subnet(2, 102)]);
    assert_eq!(status, 200, "{state}");
    assert_eq!(listed(&b), [OWN[0], OWN[1], "red 10.2.0.0/24 other hosts"]);
    assert_eq!(vnis(&b), [101, 102, 201]);
    assert_consistent(&b);
    let (_, shown) = b.launcher("GET", "/v1/networks/vni102", b"");
    assert_eq!(
        (&shown["remote"], &shown["tunnel"]["vni"], &shown["tunnel"]["mtu"]),
        (&json!(true), &json!(102), &json!(1450))
    );
    assert_eq!(shown["tunnel"]["hosts"], json!({ "h2": 1, "h3": 0 }));
    let rules = b.kernel.state().tunnel_rules.into_iter().collect::<String>();
    assert!(rules.contains("routers { 0x000066 . 0x0ec1a0000066 }"), "{rules}");
    // Again, and another tenant with the same subnets.
    assert_eq!(give(&b, "red", 1, &[subnet(2, 102), subnet(1, 101)]), (200, state.clone()));
    assert_eq!(give(&b, "blue", 1, &[subnet(1, 201), subnet(2, 202)]).0, 200);
    assert_eq!(vnis(&b), [101, 102, 201, 202]);
    let bridges: Vec<_> =
        b.kernel.state().links.into_keys().filter(|(_, link)| link.as_str().starts_with("br-vni")).collect();
    let named = |name: &str| Namespace::Named(name.to_owned());
    assert_eq!(bridges.iter().map(|(at, _)| at.clone()).collect::<Vec<_>>(), [named("ciao-blue"), named("ciao-red")]);
    // What somebody removes of it is there again after a reconcile, or a restart.
    let whole = b.kernel.state();
    for link in &bridges {
        b.kernel.change(|state| drop(state.links.remove(link)));
    }
    assert!(b.driver.reconcile(Depth::Changed).len() >= 2);
    b.driver.reconcile(Depth::Changed);
    assert_eq!(b.kernel.state(), whole);
    let b = b.restarted();
    assert_consistent(&b);
    // A change of addresses alone leaves it.
    let change = json!({ "base": 1, "generation": 2, "delete": ["10.2.0.12"] });
    assert_eq!(b.launcher("PATCH", "/v1/tenants/red/remotes", change.to_string().as_bytes()).0, 200);
    assert_eq!(vnis(&b), [101, 102, 201, 202]);
    // It is none of Docker's.
    let engine = Known { networks: [id("red"), id("blue")].map(|id| id.parse().unwrap()).into(), ..known() };
    b.driver.reconcile_with(Depth::Full, engine, false).unwrap();
    assert_eq!(vnis(&b), [101, 102, 201, 202]);
    // With others, or none, in the list it goes.
    assert_eq!(give(&b, "red", 3, &[subnet(1, 101), subnet(3, 103)]).0, 200);
    assert_eq!(vnis(&b), [101, 103, 201, 202]);
    assert_consistent(&b);
    assert_eq!(give(&b, "red", 4, &[]).0, 200);
    assert_eq!(b.launcher("DELETE", "/v1/tenants/blue/remotes", br#"{"generation":5}"#).0, 200);
    assert_eq!(listed(&b), OWN);
    let bare = |mut state: ciao_netdriver::kernel::fake::State| {
        state.links.retain(|_, link| !matches!(link, FakeLink::Vxlan(_)));
        (state.links, state.neighbours.len())
    };
    assert_eq!(give(&b, "red", 6, &[]).0, 200);
    b.launcher("DELETE", "/v1/tenants/red/remotes", br#"{"generation":7}"#);
    assert_eq!(bare(b.kernel.state()), bare(before));
    assert_consistent(&b);
}

fn known() -> Known {
    Known {
        engine: Some("engine".to_owned()),
        networks: [].into(),
        endpoints: None,
        details: Vec::new(),
        more: false,
        first: false,
        age: 0,
    }
}

#[test]
fn docker_s_network_takes_the_place_of_a_remote_one_and_leaves_it_again() {
    let b = bench();
    give(&b, "red", 1, &[subnet(1, 101), subnet(2, 102)]);
    b.ok(
        "CreateNetwork",
        &network("second", &["10.2.0.0/24"], &[("tenant", "red"), ("vni", "102"), ("bridge", "br2")]),
    );
    assert_eq!(listed(&b), [OWN[0], OWN[1], "red 10.2.0.0/24 docker"]);
    assert_eq!(vnis(&b), [101, 102, 201]);
    assert_consistent(&b);
    b.run("two", "second", "10.2.0.11/24", "");
    b.stop("second", "two");
    b.settle();
    b.ok("DeleteNetwork", &json!({ "NetworkID": id("second") }));
    assert_eq!(listed(&b), [OWN[0], OWN[1], "red 10.2.0.0/24 other hosts"]);
    assert_consistent(&b);
    // On the bridge that it has already.
    b.ok(
        "CreateNetwork",
        &network("third", &["10.2.0.0/24"], &[("tenant", "red"), ("vni", "102"), ("bridge", "br-vni102")]),
    );
    assert_eq!(vnis(&b), [101, 102, 201]);
    assert_consistent(&b);
    // One of another tenant's takes the VNI.
    b.ok("DeleteNetwork", &json!({ "NetworkID": id("third") }));
    b.ok("CreateNetwork", &network("green", &["10.2.0.0/24"], &[("tenant", "green"), ("vni", "102")]));
    assert_eq!(listed(&b), [OWN[0], "green 10.2.0.0/24 docker", OWN[1]]);
    assert_consistent(&b);
    b.ok("DeleteNetwork", &json!({ "NetworkID": id("green") }));
    b.driver.reconcile(Depth::Changed);
    assert_eq!(listed(&b).len(), 3, "with the next reconcile");
    // With the tenant's last network here it goes.
    b.ok("DeleteNetwork", &json!({ "NetworkID": id("red") }));
    assert_eq!(listed(&b), [OWN[0]]);
    assert_eq!(b.kernel.state().namespaces.into_iter().collect::<Vec<_>>(), ["ciao-blue"]);
    assert_consistent(&b);
}

#[test]
fn subnets_that_contradict_are_refused() {
    let b = bench();
    let refused = |networks: &[Value]| {
        let (status, reply) = give(&b, "red", 1, networks);
        assert_eq!(status, 422, "{reply}");
        reply["error"].as_str().unwrap().to_owned()
    };
    let other = |subnet: &str, vni: u32, gateway: &str| json!({ "subnet": subnet, "vni": vni, "gateway": gateway });
    assert!(refused(&[subnet(2, 102), other("10.2.0.128/25", 103, "10.2.0.129")]).contains("overlap"));
    assert!(refused(&[other("10.2.0.0/24", 102, "10.3.0.1")]).contains("gateway 10.3.0.1"));
    assert!(refused(&[other("10.2.0.0/24", 1 << 24, "10.2.0.1")]).contains("VNI 16777216"));
    assert!(refused(&[other("169.254.64.0/24", 102, "169.254.64.1")]).contains("uplinks"));
    // What does not fit this host is left out here alone.
    let given = [subnet(1, 7), other("10.2.0.0/24", 201, "10.2.0.1"), subnet(3, 103)];
    assert_eq!(give(&b, "red", 1, &given).0, 200);
    assert_eq!(vnis(&b), [101, 103, 201]);
    assert_consistent(&b);
}

#[test]
fn a_launcher_s_vnic_makes_a_subnet_one_of_this_host() {
    let b = bench();
    assert_eq!(give(&b, "red", 1, &[subnet(2, 102)]).0, 200);
    assert!(listed(&b).contains(&"red 10.2.0.0/24 other hosts".to_owned()));
    let mut request = crate::requests::vnic("red", "web", "10.2.0.0/24", "10.2.0.7", "02:00:00:00:02:07");
    request["bridge"] = json!("br2");
    let made = b.vnic(&request);
    assert_eq!((&made["bridge"], &made["network"]["create"]), (&json!("br2"), &json!(true)), "{made}");
    assert_eq!(made["network"]["docker"]["Options"]["vni"], "102", "{made}");
    assert_consistent(&b);
    let options = [("tenant", "red"), ("vni", "102"), ("bridge", "br2")];
    b.ok("CreateNetwork", &network("two", &["10.2.0.0/24"], &options));
    assert!(listed(&b).contains(&"red 10.2.0.0/24 docker".to_owned()), "{:?}", listed(&b));
    assert_consistent(&b);
}
