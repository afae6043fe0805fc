// SPDX-License-Identifier: Apache-2.0
//! Networks without a tenant that were paired with each other's pools.

use serde_json::json;

use crate::bench::Bench;
use crate::networks::SUBNET;
use crate::requests::{id, network_in};

/// The set of addresses that a network is on.
fn set_of(b: &Bench, name: &str) -> i64 {
    let id = id(name).parse().unwrap();
    b.store.read(|tx| tx.network(&id)).unwrap().unwrap().subnets[0].set_id.unwrap()
}

fn set_of_pool(b: &Bench, pool: &str) -> i64 {
    b.store.read(|tx| tx.pool_by_id(&pool.parse().unwrap())).unwrap().unwrap().set.id
}

#[test]
fn two_networks_paired_crosswise_are_corrected_by_the_first_endpoint() {
    let b = Bench::new();
    let (first, second) = (b.pool(SUBNET, ""), b.pool(SUBNET, ""));
    b.ok("CreateNetwork", &network_in("local", "n1", &[SUBNET], &[]));
    b.ok("CreateNetwork", &network_in("local", "n2", &[SUBNET], &[]));
    b.lease(&first, "192.168.111.9");
    b.run("e1", "n1", "192.168.111.9/24", "");
    assert_eq!((set_of(&b, "n1"), set_of(&b, "n2")), (set_of_pool(&b, &first), set_of_pool(&b, &second)));
    b.lease(&second, "192.168.111.9");
    b.run("e2", "n2", "192.168.111.9/24", "");
    assert_eq!((set_of(&b, "n1"), set_of(&b, "n2")), (set_of_pool(&b, &first), set_of_pool(&b, &second)));
    let bound = b.leases().iter().filter(|lease| *lease == "bound 192.168.111.9").count();
    assert_eq!(bound, 2, "{:?}", b.leases());
}

#[test]
fn two_networks_paired_crosswise_keep_a_lease_of_a_running_container_even_if_both_were_granted_before() {
    let b = Bench::new();
    let (first, second) = (b.pool(SUBNET, ""), b.pool(SUBNET, ""));
    b.ok("CreateNetwork", &network_in("local", "n1", &[SUBNET], &[]));
    b.ok("CreateNetwork", &network_in("local", "n2", &[SUBNET], &[]));
    b.lease(&first, "192.168.111.9");
    b.lease(&second, "192.168.111.9");
    b.run("e1", "n1", "192.168.111.9/24", "");
    b.run("e2", "n2", "192.168.111.9/24", "");
    b.stop("n1", "e1");
    b.ipam("ReleaseAddress", &json!({ "PoolID": first, "Address": "192.168.111.9" }));
    b.reconcile();
    assert!(b.leases().contains(&"bound 192.168.111.9".to_owned()), "e2 runs: {:?}", b.leases());
}
