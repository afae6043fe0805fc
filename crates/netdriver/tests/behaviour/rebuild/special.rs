// SPDX-License-Identifier: Apache-2.0
//! Records that cannot all be made again, and networks of other kinds: on bridges of the host, of a swarm, very many.

use ciao_common::serve::server::BODY_LIMIT;
use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::FakeLink;

use super::*;

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

#[test]
fn ports_that_no_rule_publishes_any_more_are_a_row_with_an_error() {
    let (b, _) = busy();
    b.kernel.change(|state| {
        for rules in state.rules.values_mut() {
            rules.retain(|line| !line.contains(" ports"));
        }
    });
    let b = b.without_database();
    let rows = rebuild(&b, &list(), false);
    let failed: Vec<_> = rows.into_iter().filter(|(_, error)| error.is_some()).collect();
    let error = "it is recorded, but no rule publishes ports of its container: restart the container";
    assert_eq!(failed, [(format!("record endpoint {}", &id("red1")[..12]), Some(error.to_owned()))]);
    assert_eq!(b.store.read(|tx| tx.ports()).unwrap(), []);
}

#[test]
fn on_a_bridge_of_the_host_a_running_container_is_kept_and_recorded_again() {
    let b = Bench::new();
    let bridge = (Namespace::Host, "lan0".parse().unwrap());
    b.kernel.change(|state| drop(state.links.insert(bridge, FakeLink::Bridge([].into()))));
    let mut request = vnic("acme", "i2", SUBNET, "192.168.111.2", "02:00:00:00:00:02");
    request["host_bridge"] = json!("lan0");
    b.vnic(&request);
    let pool = b.pool(SUBNET, "acme");
    let options = [("tenant", "acme"), ("host_bridge", "lan0")];
    b.ok("CreateNetwork", &network_in("local", "red", &[SUBNET], &options));
    for (name, address) in [("red2", "192.168.111.2"), ("red3", "192.168.111.3")] {
        b.lease(&pool, address);
        b.run(name, "red", &format!("{address}/24"), "");
    }
    let (state, leases) = (b.kernel.state(), b.leases());
    let attached = |b: &Bench| {
        let rows = b.store.read(|tx| Ok((tx.vnics(None)?, tx.endpoints()?))).unwrap();
        (rows.0, rows.1.into_iter().map(|endpoint| (endpoint.id, endpoint.vnic)).collect::<BTreeMap<_, _>>())
    };
    let before = attached(&b);
    let b = b.without_database();
    assert_eq!((b.reconcile(), b.reconcile()), (vec![], vec![]));
    assert_eq!(b.kernel.state(), state);
    let refused = b.call("CreateNetwork", &network("new", &["10.9.0.0/24"], &[])).unwrap_err();
    assert!(refused.contains("ciao-net reconcile --docker"), "{refused}");
    let mut list = listed("red", SUBNET, Some("acme"), &[("red2", "192.168.111.2/24"), ("red3", "192.168.111.3/24")]);
    list["Options"] = json!({ "tenant": "acme", "host_bridge": "lan0" });
    list["IPAM"]["Config"][0]["Gateway"] = json!("192.168.111.1");
    let rows = rebuild(&b, &[list], false);
    assert!(rows.len() == 3 && rows.iter().all(|(_, error)| error.is_none()), "{rows:?}");
    assert_eq!((attached(&b), b.leases(), b.kernel.state()), (before, leases, state));
    assert_eq!(b.lease(&pool, ""), "192.168.111.4/24", "Docker's PoolID is known again");
}

/// As in [`on_a_bridge_of_the_host_a_running_container_is_kept_and_recorded_again`]: no alias has the PoolID.
#[test]
fn a_pool_that_ciao_ipam_made_again_first_is_its_network_s() {
    for tenant in ["", "acme"] {
        let b = Bench::new();
        let bridge = (Namespace::Host, "lan0".parse().unwrap());
        b.kernel.change(|state| drop(state.links.insert(bridge, FakeLink::Bridge([].into()))));
        let pool = b.pool(SUBNET, tenant);
        let options = [("tenant", "acme"), ("host_bridge", "lan0")];
        b.ok("CreateNetwork", &network_in("local", "red", &[SUBNET], &options));
        b.lease(&pool, "192.168.111.2");
        b.run("red2", "red", "192.168.111.2/24", "");
        let b = b.without_database();
        let (at, address) = (json!({ "PoolID": pool, "Address": "192.168.111.9" }), "192.168.111.9/24");
        assert_eq!(b.lease(&pool, "192.168.111.9"), address);
        b.ipam("ReleaseAddress", &at);
        let mut list = listed("red", SUBNET, Some("acme"), &[("red2", "192.168.111.2/24")]);
        list["Options"] = json!({ "tenant": "acme", "host_bridge": "lan0" });
        list["IPAM"]["Options"] = if tenant.is_empty() { json!({}) } else { json!({ "tenant": tenant }) };
        list["IPAM"]["Config"][0]["Gateway"] = json!("192.168.111.1");
        let rows = rebuild(&b, &[list], false);
        assert!(rows.len() == 2 && rows.iter().all(|(_, error)| error.is_none()), "{rows:?}");
        assert_eq!(b.lease(&pool, ""), "192.168.111.3/24", "all addresses in use are known");
        let red = b.store.read(|tx| tx.network(&id("red").parse().unwrap())).unwrap().unwrap();
        assert_eq!(red.subnets[0].pool.as_ref().map(|pool| pool.as_str()), Some(pool.as_str()));
        assert_eq!(b.store.read(|tx| tx.view("pool", None)).unwrap().len(), 1);
    }
}

#[test]
fn a_swarm_s_network_is_recorded_again_where_it_is() {
    let b = Bench::new();
    let space = b.ipam("GetDefaultAddressSpaces", &json!({}))["LocalDefaultAddressSpace"].as_str().unwrap().to_owned();
    let request = json!({
        "AddressSpace": space, "Pool": SUBNET, "SubPool": "", "Options": { "com.docker.network.ipam.serial": "true" },
    });
    let pool = b.ipam("RequestPool", &request)["PoolID"].as_str().unwrap().to_owned();
    let gateway = json!({ "RequestAddressType": "com.docker.network.gateway" });
    b.ipam("RequestAddress", &json!({ "PoolID": pool, "Address": "192.168.111.1", "Options": gateway }));
    b.ok("CreateNetwork", &network_in(&space, "red", &[SUBNET], &[("tenant", "red"), ("bridge", "br0")]));
    b.lease(&pool, "192.168.111.5");
    b.run("red1", "red", "192.168.111.5/24", "");
    let (before, leases, state) = (records(&b), b.leases(), b.kernel.state());
    let b = b.without_database();
    let mut here = listed("red", SUBNET, Some("red"), &[("red1", "192.168.111.5/24")]);
    let mut elsewhere = listed("idle", "10.3.0.0/24", Some("blue"), &[]);
    for network in [&mut here, &mut elsewhere] {
        network["Scope"] = json!("swarm");
        network["IPAM"]["Options"] = json!({});
    }
    here["Containers"]["container-red1"]["publishes"] = json!(false);
    let rows = rebuild(&b, &[here.clone(), elsewhere.clone()], false);
    assert!(rows.len() == 2 && rows.iter().all(|(_, error)| error.is_none()), "{rows:?}");
    assert_eq!((records(&b), b.leases(), b.kernel.state()), (before, leases, state));
    assert_eq!(rebuild(&b, &[here, elsewhere], false), []);
}

#[test]
fn three_thousand_lost_networks_fit_the_limit_of_a_request() {
    // A disk takes a few milliseconds for each.
    let b = Bench::new().on_database(tempfile::tempdir_in("/dev/shm").unwrap());
    let details: Vec<_> = (0..3000)
        .map(|n: u16| {
            let (tenant, subnet) = (format!("t{}", n % 300), format!("10.{}.{}.0/24", n >> 8, n & 255));
            let mut network = listed(&format!("{n}-"), &subnet, Some(&tenant), &[]);
            network["Options"]["com.docker.network.driver.mtu"] = json!("1450");
            network
        })
        .collect();
    let networks: Vec<_> = details.iter().map(|network| network["Id"].clone()).collect();
    let known = json!({ "engine": "E", "networks": networks, "endpoints": [], "details": details });
    let whole = known.to_string().len();
    let requests = ciao_netdriver::control::requests(serde_json::from_value(known).unwrap()).unwrap();
    let requests: Vec<_> = requests.iter().map(|known| serde_json::to_string(known).unwrap()).collect();
    assert!(whole > BODY_LIMIT && requests.len() > 2, "{whole} bytes in {} requests", requests.len());
    assert!(requests.iter().all(|body| body.len() < BODY_LIMIT));
    let first: Vec<_> = requests.iter().map(|body| body.contains("\"first\":true")).collect();
    assert!(first[0] && !first[1..].contains(&true), "{first:?}");
    let mut rows = 0;
    // The last one has the ids alone, and makes what the records need.
    for body in &requests[..requests.len() - 1] {
        let (status, done) = b.launcher("POST", "/v1/reconcile", body.as_bytes());
        assert_eq!(status, 200, "{done}");
        let done = done.as_array().unwrap();
        assert!(done.iter().all(|row| row["error"].is_null()), "{done:?}");
        rows += done.iter().filter(|row| row["action"] == "record").count();
    }
    assert_eq!(rows, 3000);
    let (status, recorded) = b.launcher("GET", "/v1/records", b"");
    assert_eq!((status, recorded["networks"].as_array().unwrap().len()), (200, 3000));
}
