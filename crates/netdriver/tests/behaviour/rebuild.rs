// SPDX-License-Identifier: Apache-2.0
//! A lost database: the records are made again from Docker's list and links' aliases, while containers run.

use std::collections::BTreeMap;

use ciao_common::store::Endpoint;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{id, names_of, network_in, vnic};

const SUBNET: &str = "192.168.111.0/24";
const OWN: &str = "10.0.0.0/24";

/// A network as Docker lists it, with endpoints and their addresses.
fn listed(name: &str, subnet: &str, tenant: Option<&str>, endpoints: &[(&str, &str)]) -> Value {
    let tenant: BTreeMap<_, _> = tenant.map(|tenant| ("tenant", tenant)).into_iter().collect();
    let mut options = tenant.clone();
    if name == "red" {
        options.insert("bridge", "br0");
    }
    let container = |(name, address): &(&str, &str)| {
        let at = json!({ "Name": name, "EndpointID": id(name), "MacAddress": "", "IPv4Address": address, "IPv6Address": "" });
        (format!("container-{name}"), at)
    };
    let containers: BTreeMap<_, _> = endpoints.iter().map(container).collect();
    json!({
        "Id": id(name), "Scope": "local", "Internal": false, "Options": options, "Containers": containers,
        "IPAM": { "Driver": "ciao-ipam:latest", "Options": tenant, "Config": [{ "Subnet": subnet }] },
    })
}

fn list() -> Vec<Value> {
    vec![
        listed("red", SUBNET, Some("red"), &[("red1", "192.168.111.2/24"), ("red9", "192.168.111.9/24")]),
        listed("own", OWN, None, &[("own1", "10.0.0.2/24")]),
        listed("idle", "10.3.0.0/24", Some("blue"), &[]),
    ]
}

/// Tenants' networks with running containers, one of them on a launcher's VNIC. Answers red's PoolID.
fn busy() -> (Bench, String) {
    let b = Bench::new();
    let mut request = vnic("red", "i9", SUBNET, "192.168.111.9", "02:00:00:00:00:09");
    request["bridge"] = json!("br0");
    b.vnic(&request);
    let pools =
        [("red", SUBNET, "red"), ("own", OWN, ""), ("idle", "10.3.0.0/24", "blue")].map(|(name, subnet, tenant)| {
            let pool = b.pool(subnet, tenant);
            let options: &[_] = match name {
                "red" => &[("tenant", "red"), ("bridge", "br0")],
                "idle" => &[("tenant", "blue")],
                _ => &[],
            };
            b.ok("CreateNetwork", &network_in("local", name, &[subnet], options));
            pool
        });
    assert_eq!(b.lease(&pools[0], ""), "192.168.111.2/24");
    b.run("red1", "red", "192.168.111.2/24", "");
    assert_eq!(b.lease(&pools[0], "192.168.111.9"), "192.168.111.9/24");
    b.run("red9", "red", "192.168.111.9/24", "");
    assert_eq!(b.lease(&pools[1], ""), "10.0.0.2/24");
    b.run("own1", "own", "10.0.0.2/24", "");
    let [red, ..] = pools;
    (b, red)
}

/// Everything recorded that has no time.
fn records(b: &Bench) -> String {
    let timeless = |endpoint: Endpoint| Endpoint { created: 0, attached: None, ..endpoint };
    b.store
        .read(|tx| {
            tx.check_addresses()?;
            let mut networks = tx.networks()?;
            networks.sort_by(|one, other| one.id.cmp(&other.id));
            networks
                .iter_mut()
                .flat_map(|network| &mut network.subnets)
                .for_each(|subnet| subnet.set_id = subnet.set_id.map(|_| 0));
            let mut vnics = tx.vnics(None)?;
            vnics.sort_by(|one, other| one.id.cmp(&other.id));
            let mut endpoints: Vec<_> = tx.endpoints()?.into_iter().map(timeless).collect();
            endpoints.sort_by(|one, other| one.id.cmp(&other.id));
            Ok(format!("{networks:#?}\n{vnics:#?}\n{endpoints:#?}\n{:#?}", tx.uplinks()?))
        })
        .unwrap()
}

fn rebuild(b: &Bench, details: &[Value], dry: bool) -> Vec<(String, Option<String>)> {
    let known =
        json!({ "engine": "E", "networks": [id("red"), id("own"), id("idle")], "details": details }).to_string();
    let (status, rows) = b.launcher("POST", &format!("/v1/reconcile?dry_run={dry}"), known.as_bytes());
    assert_eq!(status, 200, "{rows}");
    b.settle();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let row = |row: &Value| {
        (format!("{} {}", text(&row["action"]).unwrap(), text(&row["what"]).unwrap()), text(&row["error"]))
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn records_are_made_again_as_they_were_and_running_containers_do_not_notice() {
    let (b, pool) = busy();
    let (before, leases, state) = (records(&b), b.leases(), b.kernel.state());
    let b = b.without_database();
    assert_eq!(b.reconcile(), [""; 0]);
    let dry = rebuild(&b, &list(), true);
    assert_eq!(records(&b).matches("id:").count(), 0, "a dry run records nothing");
    let done = rebuild(&b, &list(), false);
    assert_eq!(dry, done);
    assert_eq!(done.len(), 7, "a VNIC, three networks, three endpoints: {done:?}");
    assert!(done.iter().all(|(what, error)| what.starts_with("record ") && error.is_none()), "{done:?}");
    assert_eq!(records(&b), before);
    assert_eq!(b.leases(), leases);
    assert_eq!(b.kernel.state(), state);
    assert_eq!(rebuild(&b, &list(), false), []);
    // All goes on.
    assert_eq!(b.lease(&pool, ""), "192.168.111.3/24");
    b.run("red3", "red", "192.168.111.3/24", "");
    b.stop("red", "red1");
    b.ipam("ReleaseAddress", &json!({ "PoolID": pool, "Address": "192.168.111.2" }));
    assert_eq!(b.lease(&pool, ""), "192.168.111.2/24");
    b.stop("own", "own1");
    b.ok("DeleteNetwork", &names_of("own", ""));
    assert_eq!(b.reconcile(), [""; 0]);
}

#[test]
fn what_no_link_says_any_more_is_a_row_with_an_error() {
    let (b, pool) = busy();
    b.kernel.change(|state| state.aliases.clear());
    let b = b.without_database();
    let mut details = list();
    for (network, gateway) in details.iter_mut().zip(["192.168.111.1", "10.0.0.1", "10.3.0.1"]) {
        network["IPAM"]["Config"][0]["Gateway"] = json!(gateway);
    }
    let rows = rebuild(&b, &details, false);
    let failed: Vec<_> = rows.iter().filter(|(_, error)| error.is_some()).map(|(what, _)| what.as_str()).collect();
    let expected = ["red1", "red9", "own1"].map(|name| format!("record endpoint {}", &id(name)[..12]));
    assert_eq!(failed, expected, "{rows:?}");
    // ciao-ipam knows Docker's PoolID again, and grants no address that a container has.
    assert_eq!(b.lease(&pool, ""), "192.168.111.3/24");
}
