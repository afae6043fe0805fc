// SPDX-License-Identifier: Apache-2.0
//! A lost database: the pools of other drivers' networks, whose addresses ciao-ipam grants.

use serde_json::{Value, json};

use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::FakeLink;

use crate::bench::Bench;
use crate::requests::{id, network_in};

const SUBNET: &str = "10.7.0.0/24";

/// A network as Docker lists it: driver, tenant, addresses of running containers.
fn listed(name: &str, driver: &str, tenant: &str, addresses: &[&str]) -> Value {
    let container = |address: &&str| {
        (
            format!("of-{address}"),
            json!({ "EndpointID": id(&format!("{name}{address}")), "IPv4Address": format!("{address}/24") }),
        )
    };
    let containers: serde_json::Map<_, _> = addresses.iter().map(container).collect();
    let options = if tenant.is_empty() { json!({}) } else { json!({ "tenant": tenant }) };
    json!({
        "Id": id(name), "Driver": driver, "Scope": "local", "Options": options, "Containers": containers,
        "IPAM": { "Driver": "ciao-ipam", "Options": options, "Config": [{ "Subnet": SUBNET, "Gateway": "10.7.0.1" }] },
    })
}

/// Rows and errors.
fn rebuild(b: &Bench, details: &[Value], query: &str) -> Vec<(String, Option<String>)> {
    let ids: Vec<_> = details.iter().map(|network| network["Id"].clone()).collect();
    let known = json!({ "engine": "E", "networks": ids, "details": details }).to_string();
    let (status, rows) = b.launcher("POST", &format!("/v1/reconcile?{query}"), known.as_bytes());
    assert_eq!(status, 200, "{rows}");
    b.settle();
    let row = |row: &Value| (row["what"].as_str().unwrap().to_owned(), row["error"].as_str().map(str::to_owned));
    rows.as_array().unwrap().iter().map(row).collect()
}

fn refused(b: &Bench, pool: &str, address: &str) -> String {
    b.try_ipam("RequestAddress", &json!({ "PoolID": pool, "Address": address, "Options": {} })).unwrap_err()
}

#[test]
fn the_addresses_of_running_containers_are_granted_again_and_to_nobody_else() {
    // Before the command, a container may have been started with `--ip`.
    for (tenant, is_used) in [("", false), ("", true), ("red", false), ("red", true)] {
        let b = Bench::new();
        let pool = b.pool(SUBNET, tenant);
        assert_eq!(b.lease(&pool, ""), "10.7.0.2/24");
        let b = b.without_database();
        if is_used {
            assert_eq!(b.lease(&pool, "10.7.0.9"), "10.7.0.9/24");
            assert!(refused(&b, &pool, "").contains("ciao-net reconcile --docker"));
        }
        let list = [listed("m", "macvlan", tenant, &["10.7.0.2"])];
        let before = b.rows();
        let rows = rebuild(&b, &list, "dry_run=true");
        assert_eq!(rows, [(format!("pool {SUBNET} of network {}", &id("m")[..12]), None)]);
        assert_eq!(b.rows(), before);
        assert_eq!(rebuild(&b, &list, ""), rows);
        assert_eq!(rebuild(&b, &list, ""), []);
        for address in ["10.7.0.1", "10.7.0.2"] {
            assert!(refused(&b, &pool, address).contains("in use"));
        }
        assert_eq!(b.lease(&pool, ""), "10.7.0.3/24");
        // Docker's calls end what is known by Docker's PoolID.
        b.ipam("ReleaseAddress", &json!({ "PoolID": pool, "Address": "10.7.0.2" }));
        assert_eq!(b.lease(&pool, ""), "10.7.0.2/24");
        b.ipam("ReleasePool", &json!({ "PoolID": pool }));
        assert_eq!(b.store.read(|tx| tx.view("pool", None)).unwrap().len(), 0);
    }
}

#[test]
fn what_is_not_lost_is_not_made_again() {
    for tenant in ["", "red"] {
        let b = Bench::new();
        let pool = b.pool(SUBNET, tenant);
        b.lease(&pool, "");
        let before = b.rows();
        // The list may be older than the last lease, or its release.
        for addresses in [&["10.7.0.2"][..], &[], &["10.7.0.2", "10.7.0.9"]] {
            assert_eq!(rebuild(&b, &[listed("m", "macvlan", tenant, addresses)], ""), []);
        }
        let mut swarm = listed("s", "overlay", tenant, &["10.7.0.77"]);
        swarm["Scope"] = json!("swarm");
        assert_eq!(rebuild(&b, &[swarm], ""), []);
        assert_eq!(b.rows(), before);
    }
}

/// The PoolID of both is one.
#[test]
fn a_pool_that_a_network_of_ciao_net_shares_is_granted_to_both() {
    let b = Bench::new();
    let pool = b.pool(SUBNET, "red");
    b.ok("CreateNetwork", &network_in("local", "n", &[SUBNET], &[("tenant", "red")]));
    b.lease(&pool, "");
    b.run("n1", "n", "10.7.0.2/24", "");
    assert_eq!(b.pool(SUBNET, "red"), pool);
    assert_eq!(b.lease(&pool, ""), "10.7.0.3/24");
    let leases = b.leases();
    let b = b.without_database();
    let mut own = listed("n", "ciao-net", "red", &[]);
    own["Containers"] = json!({ "n1": { "EndpointID": id("n1"), "IPv4Address": "10.7.0.2/24" } });
    let list = [own, listed("m", "macvlan", "red", &["10.7.0.3"])];
    let rows = rebuild(&b, &list, "");
    assert!(rows.len() == 3 && rows.iter().all(|(_, error)| error.is_none()), "{rows:?}");
    assert_eq!(b.leases(), leases);
    assert_eq!(rebuild(&b, &list, ""), []);
    let recorded = b.store.read(|tx| tx.pool_by_id(&pool.parse().unwrap())).unwrap().unwrap();
    assert_eq!(recorded.refs, 2);
    // With ciao-net's network goes its reference alone, also to the gateway.
    b.stop("n", "n1");
    b.ipam("ReleaseAddress", &json!({ "PoolID": pool, "Address": "10.7.0.1" }));
    b.ipam("ReleasePool", &json!({ "PoolID": pool }));
    assert!(refused(&b, &pool, "10.7.0.1").contains("gateway") && refused(&b, &pool, "10.7.0.3").contains("in use"));
}

/// One set of addresses, two pools.
#[test]
fn a_pool_beside_a_network_of_ciao_net_is_not_known_before_its_addresses_are() {
    for is_older_copy in [false, true] {
        let b = Bench::new();
        b.pool(SUBNET, "red");
        b.ok("CreateNetwork", &network_in("local", "n", &[SUBNET], &[("tenant", "red")]));
        let old = b.copy();
        let options = json!({ "tenant": "red" });
        let ask = json!({ "AddressSpace": "local", "Pool": SUBNET, "SubPool": "10.7.0.128/25", "Options": options });
        let pool = b.ipam("RequestPool", &ask)["PoolID"].as_str().unwrap().to_owned();
        let first = b.lease(&pool, "");
        let b = if is_older_copy { b.on_database(old) } else { b.without_database() };
        // A container is started with `--ip` before the command: the pool is made again by its PoolID.
        b.lease(&pool, "10.7.0.200");
        assert!(refused(&b, &pool, "").contains("ciao-net reconcile --docker"));
        let mut other = listed("m", "macvlan", "red", &[first.trim_end_matches("/24"), "10.7.0.200"]);
        other["IPAM"]["Config"][0]["IPRange"] = json!("10.7.0.128/25");
        let rows = rebuild(&b, &[listed("n", "ciao-net", "red", &[]), other], "");
        assert!(rows.iter().all(|(_, error)| error.is_none()), "{rows:?}");
        assert!(refused(&b, &pool, first.trim_end_matches("/24")).contains("in use"), "{:?}", b.leases());
        assert_ne!(b.lease(&pool, ""), first);
    }
}

#[test]
fn networks_that_nothing_tells_apart_get_pools_apart_or_are_refused() {
    let b = Bench::new();
    let pools = ["", ""].map(|tenant| b.pool(SUBNET, tenant));
    pools.iter().for_each(|pool| drop(b.lease(pool, "")));
    let b = b.without_database();
    let list = ["m1", "m2"].map(|name| listed(name, "macvlan", "", &["10.7.0.2"]));
    let rows = rebuild(&b, &list, "");
    assert!(rows.len() == 1 && rows[0].1.is_none(), "{rows:?}");
    assert_eq!(rebuild(&b, &list, ""), []);
    assert_eq!(b.leases().iter().filter(|lease| lease.ends_with("10.7.0.2")).count(), 2);
    // Which of them a PoolID is for is not known, so it is neither's.
    let before = b.rows();
    for pool in &pools {
        assert!(refused(&b, pool, "").contains("2 rebuilt pools match"));
    }
    assert_eq!(b.rows(), before);
    // The same after ciao-ipam made one of them again.
    let b = b.without_database();
    b.lease(&pools[0], "10.7.0.9");
    let rows = rebuild(&b, &list, "");
    assert!(rows[0].1.as_ref().is_some_and(|error| error.contains("create the networks again")), "{rows:?}");
}

#[test]
fn what_was_released_since_the_list_stays_released() {
    for tenant in ["", "red"] {
        let b = Bench::new();
        let [pool, other] = [SUBNET, "10.8.0.0/24"].map(|subnet| b.pool(subnet, tenant));
        b.lease(&pool, "");
        let list = [listed("m", "macvlan", tenant, &["10.7.0.2"])];
        b.ipam("ReleasePool", &json!({ "PoolID": pool }));
        let before = b.rows();
        assert_eq!(rebuild(&b, &list, "dry_run=true"), []);
        assert_eq!(rebuild(&b, &list, ""), []);
        assert_eq!(b.rows(), before);
        assert_ne!(b.pool(SUBNET, tenant), pool);
        b.ipam("ReleasePool", &json!({ "PoolID": other }));
    }
}

/// Nothing tells which of two networks a pool is for, if the bridge is the host's, which has no alias.
#[test]
fn a_network_on_a_bridge_of_the_host_takes_no_pool_that_may_be_another_driver_s() {
    let b = Bench::new();
    let bridge = (Namespace::Host, "lan0".parse().unwrap());
    b.kernel.change(|state| drop(state.links.insert(bridge, FakeLink::Bridge([].into()))));
    b.pool(SUBNET, "");
    b.ok("CreateNetwork", &network_in("local", "n", &[SUBNET], &[("host_bridge", "lan0")]));
    let pool = b.pool(SUBNET, "");
    b.lease(&pool, "10.7.0.2");
    let b = b.without_database();
    b.lease(&pool, "10.7.0.9");
    let mut own = listed("n", "ciao-net", "", &[]);
    own["Options"] = json!({ "host_bridge": "lan0" });
    let rows = rebuild(&b, &[own, listed("m", "macvlan", "", &["10.7.0.2", "10.7.0.9"])], "");
    let error = rows[0].1.as_ref().unwrap();
    assert!(error.contains("which network each of 1 pools 10.7.0.0/24 is of"), "{rows:?}");
    assert!(b.store.read(|tx| tx.networks()).unwrap().is_empty());
    assert!(refused(&b, &pool, "10.7.0.2").contains("in use"), "the pool is the other one's");
}
