// SPDX-License-Identifier: Apache-2.0
//! A lost database: the records are made again from Docker's list and links' aliases, while containers run.

mod special;

use std::collections::BTreeMap;
use std::net::TcpListener;

use ciao_common::store::Endpoint;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{id, names_of, network, network_in, vnic};

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
        let at = json!({ "Name": name, "publishes": *name == "red1", "EndpointID": id(name), "MacAddress": "", "IPv4Address": address, "IPv6Address": "" });
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
    // Of any number, at all addresses and at one.
    let binding = |protocol, port, at| json!({ "Proto": protocol, "Port": port, "HostIP": at });
    let mut published = names_of("red", "red1");
    published["Options"] = json!({ "com.docker.network.portmap": [binding(6, 80, ""), binding(17, 53, "127.0.0.1")] });
    b.ok("ProgramExternalConnectivity", &published);
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
            Ok(format!("{networks:#?}\n{vnics:#?}\n{endpoints:#?}\n{:#?}\n{:#?}", tx.uplinks()?, tx.ports()?))
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
    assert_eq!(done.len(), 6, "three networks, three endpoints: {done:?}");
    assert!(done.iter().all(|(what, error)| what.starts_with("record ") && error.is_none()), "{done:?}");
    assert_eq!(records(&b), before);
    assert_eq!(b.leases(), leases);
    assert_eq!(b.kernel.state(), state);
    assert_eq!(rebuild(&b, &list(), false), []);
    let ports = b.store.read(|tx| tx.ports()).unwrap();
    let taken = ports.iter().filter(|port| TcpListener::bind((port.host_address, port.host_port)).is_err());
    assert_eq!((ports.len(), taken.count()), (2, 1), "they are held again");
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

/// Its bridge, which a recorded network is on too, is all that says so.
#[test]
fn a_network_that_came_after_the_backup_is_recorded_with_its_gateway_and_docker_s_pool_id() {
    let (b, _) = busy();
    let old = b.copy();
    let subnet = "10.4.0.0/24";
    let pool = b.pool(subnet, "red");
    b.ok("CreateNetwork", &network_in("local", "more", &[subnet], &[("tenant", "red"), ("bridge", "br0")]));
    let address = b.lease(&pool, "");
    b.run("more1", "more", &address, "");
    let (before, leases, state) = (records(&b), b.leases(), b.kernel.state());
    let b = b.on_database(old);
    assert_eq!(b.reconcile(), [""; 0]);
    let mut more = listed("more", subnet, Some("red"), &[("more1", &address)]);
    more["Options"]["bridge"] = json!("br0");
    let rows = rebuild(&b, &[more], false);
    assert!(rows.len() == 2 && rows.iter().all(|(_, error)| error.is_none()), "{rows:?}");
    assert_eq!((records(&b), b.leases(), b.kernel.state()), (before, leases, state));
}

/// It has no Docker network, so no list has anything that is lost.
#[test]
fn a_launcher_s_vnic_is_recorded_again_though_docker_has_no_network_for_it() {
    let b = Bench::new();
    b.vnic(&vnic("red", "i9", SUBNET, "192.168.111.9", "02:00:00:00:00:09"));
    let (before, state) = (records(&b), b.kernel.state());
    let b = b.without_database();
    let next = vnic("red", "i8", SUBNET, "192.168.111.8", "02:00:00:00:00:08");
    let (status, refused) = b.make_vnic(&next);
    assert!(status == 409 && refused["error"].as_str().unwrap().contains("reconcile --docker"), "{refused}");
    for dry in [true, false] {
        let rows = rebuild(&b, &[], dry);
        assert!(rows.len() == 1 && rows[0].0.starts_with("record VNIC ") && rows[0].1.is_none(), "{rows:?}");
    }
    assert_eq!((records(&b), b.kernel.state()), (before, state));
    b.vnic(&next);
    b.assert_consistent();
}

/// Alone it would seem that nothing is missing, and what its container needs of the network would go.
#[test]
fn a_running_launcher_s_vnic_is_not_recorded_without_its_network() {
    let (b, _) = busy();
    let (before, state) = (records(&b), b.kernel.state());
    let b = b.without_database();
    let mut details = list();
    details[0]["Options"]["egress"] = json!("unknown");
    let rows = rebuild(&b, &details, false);
    let failed: Vec<_> = rows.iter().filter(|(_, error)| error.is_some()).map(|(what, _)| what.as_str()).collect();
    assert_eq!(failed, [format!("record network {}", &id("red")[..12])], "{rows:?}");
    assert_eq!(rebuild(&b, &[], false), []);
    assert_eq!((b.reconcile(), b.kernel.state()), (vec![], state.clone()));
    assert_eq!(rebuild(&b, &list(), false).len(), 3, "a network and two endpoints");
    assert_eq!((records(&b), b.kernel.state()), (before, state));
}
