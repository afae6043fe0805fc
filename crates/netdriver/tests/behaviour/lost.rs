// SPDX-License-Identifier: Apache-2.0
//! A database that was lost, or an older one than what runs: nothing that a container is on is touched.

use std::collections::BTreeMap;

use ciao_netdriver::reconcile::Depth;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{endpoint, id, network, vnic};

const SUBNET: &str = "192.168.111.0/24";

/// Tenants with running containers, uplinks and a launcher's VNIC that nothing runs on.
fn busy() -> Bench {
    let b = Bench::new();
    let made = b.vnic(&vnic("red", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
    b.vnic(&vnic("green", "i2", SUBNET, "192.168.111.9", "02:00:00:00:00:09"));
    let bridge = made["bridge"].as_str().unwrap();
    b.ok("CreateNetwork", &network("red", &[SUBNET], &[("tenant", "red"), ("bridge", bridge)]));
    b.ok("CreateNetwork", &network("blue", &[SUBNET, "fd00::/64"], &[("tenant", "blue")]));
    b.ok("CreateNetwork", &network("own", &["10.0.0.0/24"], &[]));
    b.run("red1", "red", "192.168.111.2/24", "");
    b.run("blue1", "blue", "192.168.111.2/24 fd00::2/64", "");
    b.run("own1", "own", "10.0.0.2/24", "");
    b
}

#[test]
fn without_its_records_nothing_of_a_running_container_is_touched_and_nothing_is_made_beside_it() {
    let b = busy();
    let state = b.kernel.state();
    let b = b.without_database();
    for depth in [Depth::Full, Depth::Changed, Depth::Full] {
        assert_eq!(b.reconcile_to(depth), [""; 0]);
        b.driver.watch_firewall().unwrap();
        assert_eq!(b.kernel.state(), state, "{depth:?}");
    }
    let refused = [
        b.call("CreateNetwork", &network("new", &["10.9.0.0/24"], &[("tenant", "red")])).unwrap_err(),
        b.call("CreateEndpoint", &endpoint("red2", "red", "192.168.111.3/24", "")).unwrap_err(),
        b.make_vnic(&vnic("red", "i3", SUBNET, "192.168.111.5", "02:00:00:00:00:05")).1["error"].to_string(),
    ];
    for sentence in refused {
        assert!(sentence.contains("ciao-net reconcile --docker"), "{sentence}");
    }
    assert_eq!(b.kernel.state(), state);
    // Docker ends the containers as usual; what is left then is nobody's.
    for (network, endpoint) in [("red", "red1"), ("blue", "blue1"), ("own", "own1")] {
        b.stop(network, endpoint);
    }
    b.kill_containers();
    give_up(&b, "");
    b.ok("CreateNetwork", &network("new", &["10.9.0.0/24"], &[("tenant", "red")]));
}

/// `ciao-net reconcile --give-up`.
fn give_up(b: &Bench, query: &str) -> Value {
    let (status, rows) = b.launcher("POST", &format!("/v1/reconcile?give_up=true{query}"), b"");
    assert_eq!(status, 200, "{rows}");
    b.settle();
    rows
}

#[test]
fn a_dry_run_lists_what_giving_up_does_and_gives_nothing_up() {
    let older = || {
        let b = busy();
        let old = b.copy();
        b.run("red3", "red", "192.168.111.3/24", "");
        b.ok("CreateNetwork", &network("more", &["10.1.0.0/24"], &[("tenant", "red"), ("bridge", "br9")]));
        b.run("more1", "more", "10.1.0.2/24", "");
        b.ok("CreateNetwork", &network("new", &[SUBNET], &[("tenant", "new")]));
        b.run("new1", "new", "192.168.111.2/24", "");
        b.on_database(old)
    };
    for b in [busy().without_database(), older()] {
        assert_eq!(b.reconcile(), [""; 0]);
        let state = b.kernel.state();
        let known = json!({ "engine": "E", "networks": [id("red")] }).to_string();
        for query in ["?force=true&dry_run=true", "?force=true"] {
            let (status, rows) = b.launcher("POST", &format!("/v1/reconcile{query}"), known.as_bytes());
            assert!(status == 200 && rows.as_array().unwrap().iter().all(|row| row["action"] == "record"), "{rows}");
            assert_eq!(b.kernel.state(), state, "a list that is taken by force gives nothing up");
        }
        let (status, refused) = b.launcher("POST", "/v1/reconcile?give_up=true", known.as_bytes());
        assert!(status == 422 && refused["error"].as_str().unwrap().contains("without"), "{refused}");
        let said = give_up(&b, "&dry_run=true");
        assert_eq!(b.reconcile(), [""; 0]);
        assert_eq!(b.kernel.state(), state, "it was not given up");
        assert_eq!(said, give_up(&b, ""));
        assert!(said.as_array().unwrap().len() > 2 && said[0]["error"].is_null(), "{said}");
        assert_eq!(give_up(&b, ""), json!([]));
        b.ok("CreateNetwork", &network("next", &["10.9.0.0/24"], &[("tenant", "next")]));
    }
}

/// On a bridge of its own, and on that of the older network.
#[test]
fn an_older_database_cuts_off_nothing_that_came_after_it() {
    for options in [&[("tenant", "red")][..], &[("tenant", "red"), ("bridge", "br0")]] {
        older_database(options);
    }
}

fn older_database(options: &[(&str, &str)]) {
    let b = Bench::new();
    b.ok("CreateNetwork", &network("red", &[SUBNET], options));
    b.run("red1", "red", "192.168.111.2/24", "");
    let old = b.copy();
    b.run("red2", "red", "192.168.111.3/24", "");
    b.ok("CreateNetwork", &network("more", &["10.1.0.0/24"], options));
    b.run("more1", "more", "10.1.0.2/24", "");
    b.ok("CreateNetwork", &network("blue", &[SUBNET], &[("tenant", "blue")]));
    b.run("blue1", "blue", "192.168.111.2/24", "");
    let state = b.kernel.state();
    let b = b.on_database(old);
    for depth in [Depth::Full, Depth::Changed] {
        assert_eq!(b.reconcile_to(depth), [""; 0]);
        b.driver.watch_firewall().unwrap();
        assert_eq!(b.kernel.state(), state, "{depth:?}");
    }
    // What is recorded goes on.
    b.stop("red", "red1");
    b.run("red3", "red", "192.168.111.4/24", "");
    assert!(b.call("Join", &json!({ "NetworkID": id("more"), "EndpointID": id("x"), "SandboxKey": "" })).is_err());
}

/// A network with a container, and a launcher's VNIC; beside them, a network with a running container that came after
/// the backup. What is deleted takes nothing from that one, also where it is the last that is recorded.
#[test]
fn what_is_deleted_beside_lost_records_takes_nothing_from_them() {
    for (icc, bridge) in [("true", "br0"), ("false", "br1")] {
        let b = Bench::new();
        let options = [("tenant", "red"), ("bridge", "br0"), ("icc", icc)];
        b.ok("CreateNetwork", &network("red", &[SUBNET], &options));
        b.run("red1", "red", "192.168.111.2/24", "");
        let mut request = vnic("red", "i1", SUBNET, "192.168.111.9", "02:00:00:00:00:09");
        request["bridge"] = json!("br0");
        let made = b.vnic(&request);
        let old = b.copy();
        let options = [("tenant", "red"), ("bridge", bridge)];
        b.ok("CreateNetwork", &network("more", &["10.1.0.0/24"], &options));
        b.run("more1", "more", "10.1.0.2/24", "");
        let b = b.on_database(old);
        assert_eq!(b.reconcile(), [""; 0]);
        b.stop("red", "red1");
        let state = b.kernel.state();
        b.ok("DeleteNetwork", &json!({ "NetworkID": id("red") }));
        assert_eq!(b.kernel.state(), state, "{icc} {bridge}");
        assert_eq!(b.delete_vnic(&made, false).0, 200);
        let state = b.kernel.state();
        assert!(state.namespaces.contains("ciao-red"), "{icc} {bridge}");
        for depth in [Depth::Full, Depth::Changed] {
            assert_eq!(b.reconcile_to(depth), [""; 0]);
            assert_eq!(b.kernel.state(), state, "{depth:?} {icc} {bridge}");
        }
        let known = json!({ "engine": "E", "networks": [id("more")], "details": [{
            "Id": id("more"), "Scope": "local", "Options": { "tenant": "red", "bridge": bridge },
            "Containers": { "c": { "EndpointID": id("more1"), "IPv4Address": "10.1.0.2/24" } },
            "IPAM": { "Driver": "default", "Config": [{ "Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1" }] },
        }] });
        let (status, rows) = b.launcher("POST", "/v1/reconcile", known.to_string().as_bytes());
        assert_eq!(status, 200, "{rows}");
        b.reconcile();
        b.assert_consistent();
        b.run("more2", "more", "10.1.0.3/24", "");
    }
}

#[test]
fn tunnels_of_a_lost_database_stay_until_controller_and_docker_give_their_lists_again() {
    let b = Bench::new();
    b.kernel.change(|state| state.addresses.push(("192.0.2.0/24".parse().unwrap(), [192, 0, 2, 1].into())));
    let give = |b: &Bench, path: &str, list: &Value| {
        let mut body = list.clone();
        body["generation"] = json!(1);
        let (status, reply) = b.launcher("PUT", path, body.to_string().as_bytes());
        assert_eq!(status, 200, "{reply}");
    };
    let host = |n: u8| json!({ "id": format!("h{n}"), "address": format!("192.0.2.{n}") });
    let hosts = json!({ "hosts": [host(1), host(2)] });
    let remotes = json!({ "remotes": [["192.168.111.9", "02:00:00:00:00:09", "h2"]] });
    give(&b, "/v1/hosts", &hosts);
    give(&b, "/v1/tenants/red/remotes", &remotes);
    let options = [("tenant", "red"), ("bridge", "br0"), ("vni", "101")];
    b.ok("CreateNetwork", &network("red", &[SUBNET], &options));
    b.run("red1", "red", "192.168.111.2/24", "");
    let state = b.kernel.state();
    assert!(!state.tunnel_hosts.is_empty() && !state.tunnel_rules.is_empty());
    let b = b.without_database();
    let unchanged = |b: &Bench| {
        for depth in [Depth::Full, Depth::Changed] {
            assert_eq!(b.reconcile_to(depth), [""; 0]);
            assert_eq!(b.kernel.state(), state, "{depth:?}");
        }
    };
    unchanged(&b);
    let options: BTreeMap<_, _> = options.into_iter().collect();
    let known = json!({ "engine": "E", "networks": [id("red")], "details": [{
        "Id": id("red"), "Scope": "local", "Options": options,
        "Containers": { "c": { "EndpointID": id("red1"), "IPv4Address": "192.168.111.2/24" } },
        "IPAM": { "Driver": "default", "Config": [{ "Subnet": SUBNET, "Gateway": "192.168.111.1" }] },
    }] });
    let rebuild = |b: &Bench| b.launcher("POST", "/v1/reconcile", known.to_string().as_bytes()).1;
    // The MTU too follows from the list of hosts.
    let refused = rebuild(&b);
    assert!(refused[0]["error"].as_str().unwrap().contains("let the controller give its lists"), "{refused}");
    unchanged(&b);
    give(&b, "/v1/tenants/red/remotes", &remotes);
    give(&b, "/v1/hosts", &hosts);
    unchanged(&b);
    let rows = rebuild(&b);
    assert!(rows.as_array().unwrap().iter().all(|row| row["error"].is_null()), "{rows}");
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
    unchanged(&b);
    assert_eq!(b.store.read(|tx| tx.tunnels()).unwrap().len(), 1);
}
