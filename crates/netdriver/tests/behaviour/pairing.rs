// SPDX-License-Identifier: Apache-2.0
//! Which of ciao-ipam's pools a network is on, by the address space that both drivers get.

use std::sync::Barrier;

use ciao_common::types::Subnet;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::requests::{id, network_in, vnic};

const SUBNET: &str = "192.168.111.0/24";

/// `RequestPool` and the gateway's `RequestAddress` in an address space: the PoolID and the subnet.
fn pool_in(b: &Bench, space: &str, subnet: &str, tenant: &str) -> (String, String) {
    let options = if tenant.is_empty() { json!({}) } else { json!({ "tenant": tenant }) };
    let request =
        json!({ "AddressSpace": space, "Pool": subnet, "SubPool": "", "Options": options, "V6": subnet.contains(':') });
    let reply = b.ipam("RequestPool", &request);
    let (pool, subnet) = (text(&reply["PoolID"]), text(&reply["Pool"]));
    let gateway = subnet.parse::<Subnet>().unwrap().first_usable();
    let options = json!({ "RequestAddressType": "com.docker.network.gateway" });
    b.ipam("RequestAddress", &json!({ "PoolID": pool, "Address": gateway, "Options": options }));
    (pool, subnet)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A fresh address space, as the engine is told of.
fn space(b: &Bench) -> String {
    text(&b.ipam("GetDefaultAddressSpaces", &Value::Null)["LocalDefaultAddressSpace"])
}

/// The tenant of a pool's set.
fn owner(b: &Bench, pool: &str) -> Option<String> {
    let pool = b.store.read(|tx| tx.pool_by_id(&pool.parse().unwrap())).unwrap();
    pool.unwrap().set.tenant.map(|tenant| tenant.to_string())
}

fn pool_of(b: &Bench, name: &str) -> String {
    let id = id(name).parse().unwrap();
    b.store.read(|tx| tx.network(&id)).unwrap().unwrap().subnets[0].pool.clone().unwrap().to_string()
}

#[test]
fn every_network_gets_an_address_space_of_its_own() {
    let b = Bench::new();
    assert_ne!(space(&b), space(&b));
}

#[test]
fn the_tenant_may_be_passed_to_the_network_alone() {
    let b = Bench::new();
    let space = space(&b);
    let (pool, _) = pool_in(&b, &space, SUBNET, "");
    b.vnic(&vnic("acme", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"));
    let bridge = text(&b.vnic(&vnic("acme", "i1", SUBNET, "192.168.111.2", "02:00:00:00:00:02"))["bridge"]);
    b.ok("CreateNetwork", &network_in(&space, "n1", &[SUBNET], &[("tenant", "acme"), ("bridge", &bridge)]));
    assert_eq!(owner(&b, &pool).as_deref(), Some("acme"));
    assert_eq!(b.lease(&pool, ""), "192.168.111.3/24", "the launcher's reservation is passed over");
    let (other, _) = pool_in(&b, "local", SUBNET, "acme");
    assert_eq!(owner(&b, &other).as_deref(), Some("acme"));
    assert_eq!(b.lease(&other, ""), "192.168.111.4/24", "one set of addresses");
    b.store.read(|tx| tx.check_addresses()).unwrap();
}

#[test]
fn a_tenant_s_second_network_needs_neither_subnet_nor_ipam_option() {
    let b = Bench::new();
    let mut subnets = Vec::new();
    for (name, tenant) in [("n1", "red"), ("n2", "blue"), ("n3", "red"), ("n4", "blue"), ("n5", "red")] {
        let space = space(&b);
        let (pool, subnet) = pool_in(&b, &space, "", "");
        b.ok("CreateNetwork", &network_in(&space, name, &[&subnet], &[("tenant", tenant)]));
        assert_eq!(owner(&b, &pool).as_deref(), Some(tenant));
        subnets.push(subnet);
    }
    subnets.sort();
    subnets.dedup();
    assert_eq!(subnets.len(), 5);
}

#[test]
fn pools_of_one_subnet_requested_at_the_same_moment_are_their_own_network_s() {
    for round in 0..6 {
        let b = Bench::new();
        let tenants = ["red", "blue", "", "green"];
        let spaces: Vec<_> = tenants.iter().map(|_| space(&b)).collect();
        let pools: Vec<_> = spaces.iter().map(|space| pool_in(&b, space, SUBNET, "").0).collect();
        // In another order than they were requested.
        for n in 0..4 {
            let n = (n * 3 + round) % 4;
            let options: &[_] = if tenants[n].is_empty() { &[] } else { &[("tenant", tenants[n])] };
            b.ok("CreateNetwork", &network_in(&spaces[n], &format!("a{n}"), &[SUBNET], options));
        }
        for n in 0..4 {
            assert_eq!(pool_of(&b, &format!("a{n}")), pools[n]);
            assert_eq!(owner(&b, &pools[n]).unwrap_or_default(), tenants[n]);
        }
    }
}

/// Networks of two tenants at the same moment where one nonce serves both, as with engine 20.10, which asks once.
#[test]
fn where_both_have_one_nonce_one_of_two_tenants_is_refused_and_the_other_gets_its_own_pool() {
    for _ in 0..5 {
        let b = Bench::new();
        let space = space(&b);
        let pools = ["red", "blue"].map(|_| pool_in(&b, &space, SUBNET, "").0);
        let barrier = Barrier::new(2);
        let create = |n: usize| {
            barrier.wait();
            let tenant = ["red", "blue"][n];
            let made = b.call("CreateNetwork", &network_in(&space, &format!("a{n}"), &[SUBNET], &[("tenant", tenant)]));
            if let Err(error) = &made {
                assert!(error.contains("being created"), "{error}");
                // As the engine does then.
                b.ipam("ReleasePool", &json!({ "PoolID": pools[n] }));
            }
            made.is_ok()
        };
        let made = std::thread::scope(|scope| {
            let other = scope.spawn(|| create(1));
            [create(0), other.join().unwrap()]
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
        let n = usize::from(made[1]);
        assert_eq!(pool_of(&b, &format!("a{n}")), pools[n]);
        assert_eq!(owner(&b, &pools[n]).as_deref(), Some(["red", "blue"][n]));
        b.store.read(|tx| tx.check_addresses()).unwrap();
    }
}

#[test]
fn where_both_have_one_nonce_a_tenant_takes_no_pool_that_may_be_another_network_s() {
    let b = Bench::new();
    let space = space(&b);
    let pools = ["", "red"].map(|_| pool_in(&b, &space, SUBNET, "").0);
    b.ok("CreateNetwork", &network_in(&space, "a0", &[SUBNET], &[]));
    let error = b.call("CreateNetwork", &network_in(&space, "a1", &[SUBNET], &[("tenant", "red")])).unwrap_err();
    assert!(error.contains("being created"), "{error}");
    b.ipam("ReleasePool", &json!({ "PoolID": pools[1] }));
    b.lease(&pools[0], "192.168.111.9");
    b.run("e1", "a0", "192.168.111.9/24", "");
    assert_eq!(pool_of(&b, "a0"), pools[0]);
    let (again, _) = pool_in(&b, &space, SUBNET, "");
    b.ok("CreateNetwork", &network_in(&space, "a1", &[SUBNET], &[("tenant", "red")]));
    assert_eq!(pool_of(&b, "a1"), again);
}

#[test]
fn a_pool_is_merged_into_the_tenant_s_own_set_with_its_gateway_and_auxiliary_addresses() {
    let b = Bench::new();
    let first_space = space(&b);
    let (first, _) = pool_in(&b, &first_space, SUBNET, "acme");
    b.ok("CreateNetwork", &network_in(&first_space, "n1", &[SUBNET], &[("tenant", "acme"), ("bridge", "br1")]));
    assert_eq!(b.lease(&first, ""), "192.168.111.2/24");
    let second_space = space(&b);
    let (second, _) = pool_in(&b, &second_space, SUBNET, "");
    assert_eq!(b.lease(&second, "192.168.111.77"), "192.168.111.77/24");
    b.ok("CreateNetwork", &network_in(&second_space, "n2", &[SUBNET], &[("tenant", "acme"), ("bridge", "br1")]));
    assert_eq!(owner(&b, &second).as_deref(), Some("acme"));
    assert_eq!(b.lease(&second, ""), "192.168.111.3/24");
    assert!(b.try_ipam("RequestAddress", &json!({ "PoolID": first, "Address": "192.168.111.77" })).is_err());
    b.store.read(|tx| tx.check_addresses()).unwrap();
    // The gateway is both networks'.
    for (pool, name) in [(&first, "n1"), (&second, "n2")] {
        b.ipam("ReleaseAddress", &json!({ "PoolID": pool, "Address": "192.168.111.1" }));
        b.ipam("ReleasePool", &json!({ "PoolID": pool }));
        b.ok("DeleteNetwork", &json!({ "NetworkID": id(name) }));
        let gateway = b.leases().iter().filter(|lease| *lease == "gateway 192.168.111.1").count();
        assert_eq!(gateway, usize::from(name == "n1"));
        b.store.read(|tx| tx.check_addresses()).unwrap();
    }
    assert!(b.store.read(|tx| tx.view("pool", None)).unwrap().is_empty());
}

#[test]
fn a_conflict_with_the_tenant_s_own_addresses_is_an_error_and_changes_nothing() {
    let b = Bench::new();
    let first_space = space(&b);
    let (first, _) = pool_in(&b, &first_space, SUBNET, "acme");
    b.ok("CreateNetwork", &network_in(&first_space, "n1", &[SUBNET], &[("tenant", "acme"), ("bridge", "br1")]));
    b.lease(&first, "192.168.111.77");
    let create = |space: &str, subnet: &str| {
        let options = [("tenant", "acme"), ("bridge", "br1")];
        b.call("CreateNetwork", &network_in(space, "n2", &[subnet], &options)).unwrap_err()
    };
    let other = space(&b);
    let (pool, _) = pool_in(&b, &other, SUBNET, "");
    b.lease(&pool, "192.168.111.77");
    let (rows, kernel) = (b.rows(), b.kernel.state());
    let error = create(&other, SUBNET);
    assert!(error.contains("auxiliary address 192.168.111.77") && error.contains("acme"), "{error}");
    assert_eq!((b.rows(), b.kernel.state()), (rows, kernel));
    b.ipam("ReleasePool", &json!({ "PoolID": pool }));

    // A reserved address cannot be a gateway.
    let mut request = vnic("blue", "i1", "10.9.0.0/24", "10.9.0.1", "02:00:00:00:00:02");
    request["gateway"] = json!("10.9.0.254");
    b.vnic(&request);
    let third = space(&b);
    pool_in(&b, &third, "10.9.0.0/24", "");
    let rows = b.rows();
    let error =
        b.call("CreateNetwork", &network_in(&third, "n3", &["10.9.0.0/24"], &[("tenant", "blue")])).unwrap_err();
    assert!(error.contains("gateway 10.9.0.1 is reserved for instance i1"), "{error}");
    assert_eq!(b.rows(), rows);
}

/// Though the other tenant has that subnet as well, and even a pool of it that no network is on.
#[test]
fn a_pool_requested_for_one_tenant_and_a_network_of_another_are_refused() {
    let b = Bench::new();
    let first = space(&b);
    pool_in(&b, &first, SUBNET, "red");
    b.ok("CreateNetwork", &network_in(&first, "r1", &[SUBNET], &[("tenant", "red"), ("bridge", "br1")]));
    for is_leaked in [false, true] {
        if is_leaked {
            pool_in(&b, &space(&b), SUBNET, "red");
        }
        let second = space(&b);
        let (pool, _) = pool_in(&b, &second, SUBNET, "blue");
        let (rows, kernel) = (b.rows(), b.kernel.state());
        let request = network_in(&second, "r2", &[SUBNET], &[("tenant", "red"), ("bridge", "br1")]);
        let error = b.call("CreateNetwork", &request).unwrap_err();
        assert!(error.contains("pool 192.168.111.0/24 of tenant blue: give -o tenant=blue"), "{error}");
        assert_eq!((b.rows(), b.kernel.state()), (rows, kernel));
        b.ipam("ReleasePool", &json!({ "PoolID": pool }));
    }
}

#[test]
fn an_overlap_with_a_pool_of_the_tenant_is_refused_as_if_both_drivers_had_the_tenant() {
    let b = Bench::new();
    pool_in(&b, "local", "192.168.0.0/16", "acme");
    let space = space(&b);
    pool_in(&b, &space, SUBNET, "");
    let rows = b.rows();
    let error = b.call("CreateNetwork", &network_in(&space, "n1", &[SUBNET], &[("tenant", "acme")])).unwrap_err();
    assert!(error.contains("overlaps pool 192.168.0.0/16 of tenant acme"), "{error}");
    assert_eq!(b.rows(), rows);
}

#[test]
fn both_families_of_a_network_become_the_tenant_s_or_none() {
    let b = Bench::new();
    let six = "fd00:5::/64";
    pool_in(&b, "local", "fd00::/16", "acme");
    let space = space(&b);
    let pools = [SUBNET, six].map(|subnet| pool_in(&b, &space, subnet, "").0);
    let rows = b.rows();
    let request = network_in(&space, "n1", &[SUBNET, six], &[("tenant", "acme")]);
    assert!(b.call("CreateNetwork", &request).unwrap_err().contains("overlaps pool fd00::/16"));
    assert_eq!(b.rows(), rows);
    let request = network_in(&space, "n1", &[SUBNET, six], &[("tenant", "blue")]);
    b.ok("CreateNetwork", &request);
    assert_eq!(pools.map(|pool| owner(&b, &pool)), [Some("blue".to_owned()), Some("blue".to_owned())]);
}

#[test]
fn an_empty_value_of_an_option_is_an_error_that_names_it() {
    let b = Bench::new();
    for key in ["tenant", "bridge", "egress"] {
        let error = b.call("CreateNetwork", &network_in("local", "n1", &[SUBNET], &[(key, "")])).unwrap_err();
        assert!(error.contains(&format!("--opt {key}= is empty")), "{error}");
    }
}

#[test]
fn a_network_whose_pool_is_gone_is_refused() {
    let b = Bench::new();
    let error = b.call("CreateNetwork", &network_in(&space(&b), "n1", &[SUBNET], &[])).unwrap_err();
    assert!(error.contains("has no pool 192.168.111.0/24"), "{error}");
}
