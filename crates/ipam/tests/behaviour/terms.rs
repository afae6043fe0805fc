// SPDX-License-Identifier: Apache-2.0
//! Swarm leaders: requests repeated after a change of leadership.

use std::fs;
use std::time::Duration;

use ciao_common::types::PoolId;
use serde_json::Value;

use crate::bench::{Bench, sentence};

const SUBNET: &str = "10.77.0.0/24";
const TEN_MINUTES: i64 = 600_000;

/// The first leader with a network of three tasks.
fn led() -> (Bench, PoolId) {
    let b = Bench::new();
    b.capabilities();
    let pool = b.global("acme", SUBNET, false);
    b.gateway(&pool, "").unwrap();
    for _ in 0..3 {
        b.ask(&pool, "").unwrap();
    }
    (b, pool)
}

/// The same leader, chosen again: it requests the pool, its gateway, and these addresses.
fn restore(b: &Bench, addresses: &[&str]) -> PoolId {
    b.capabilities();
    let pool = b.global("acme", SUBNET, true);
    b.gateway(&pool, "10.77.0.1").unwrap();
    for address in addresses {
        b.ask(&pool, address).unwrap();
    }
    pool
}

fn states(b: &Bench) -> Vec<String> {
    let leases = b.store.read(|tx| tx.view("lease", None)).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    leases.iter().map(|lease| format!("{} {}", text(&lease["state"]), text(&lease["address"]))).collect()
}

#[test]
fn a_new_leader_is_granted_what_exists_and_nothing_is_granted_twice() {
    let (b, pool) = led();
    assert_eq!(restore(&b, &["10.77.0.2", "10.77.0.4"]), pool, "serial is the request's, not the pool's");
    assert!(states(&b).contains(&"former 10.77.0.3".to_owned()), "{:?}", states(&b));
    assert!(sentence(b.ask(&pool, "10.77.0.2")).contains("in use"), "docker run --ip of a taken address fails");
    assert_eq!(b.ask(&pool, "").unwrap(), "10.77.0.5/24");
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    b.age_restores(TEN_MINUTES);
    assert_eq!(b.ipam.reclaim().unwrap(), 1);
    assert_eq!(b.ask(&pool, "").unwrap(), "10.77.0.3/24");
}

#[test]
fn a_daemon_killed_at_any_step_of_a_restore_continues_it() {
    let (b, pool) = led();
    b.capabilities();
    let b = b.restarted();
    assert_eq!(b.global("acme", SUBNET, true), pool);
    let b = b.restarted();
    b.gateway(&pool, "10.77.0.1").unwrap();
    b.ask(&pool, "10.77.0.3").unwrap();
    let b = b.restarted();
    assert_eq!(b.ask(&pool, "").unwrap(), "10.77.0.5/24");
}

#[test]
fn unconfirmed_addresses_are_kept_for_ten_minutes_and_then_until_the_pool_is_full() {
    let (b, pool) = led();
    restore(&b, &[]);
    let mut given: Vec<_> = (0..250).map(|_| b.ask(&pool, "").unwrap()).collect();
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 250);
    assert!(!given.contains(&"10.77.0.3/24".to_owned()));
    let full = sentence(b.ask(&pool, ""));
    assert!(full.contains("is full"), "it may be the same leader, with a user's own serial option: {full}");
    b.age_restores(TEN_MINUTES);
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    assert_eq!(b.ask(&pool, "").unwrap(), "10.77.0.2/24");
}

/// Whether the leader is a new one is the same for all of its pools.
#[test]
fn a_lease_of_another_pool_that_is_requested_again_confirms_a_restore_too() {
    let (b, pool) = led();
    let small = b.global("acme", "10.78.0.0/29", false);
    b.gateway(&small, "").unwrap();
    let leases: Vec<_> = (0..5).map(|_| b.ask(&small, "").unwrap()).collect();
    restore(&b, &[]);
    assert_eq!(b.global("acme", "10.78.0.0/29", true), small);
    b.gateway(&small, "10.78.0.1").unwrap();
    assert!(sentence(b.ask(&small, "")).contains("is full"));
    b.ask(&pool, "10.77.0.2").unwrap();
    assert_eq!(b.ask(&small, "").unwrap(), leases[0]);
}

#[test]
fn a_request_that_comes_later_than_a_new_leader_s_is_no_restore() {
    let (mut b, pool) = led();
    let pools = [b.global("acme", "10.78.0.0/24", false), b.global("acme", "10.79.0.0/24", false)];
    for pool in &pools {
        b.gateway(pool, "").unwrap();
        b.ask(pool, "").unwrap();
    }
    // The plugin is enabled again, and a user gives a second network the serial option and its gateway.
    b.capabilities();
    b.later(Duration::from_secs(61));
    let former = |b: &Bench| states(b).into_iter().filter(|state| state.starts_with("former")).collect::<Vec<_>>();
    assert_eq!(b.global("acme", SUBNET, true), pool);
    b.gateway(&pool, "10.77.0.1").unwrap();
    assert!(sentence(b.ask(&pool, "10.77.0.3")).contains("in use"));
    assert_eq!(former(&b), Vec::<String>::new());
    // A new leader with many networks takes its time.
    b.capabilities();
    for (pool, subnet) in [(&pool, SUBNET), (&pools[0], "10.78.0.0/24")] {
        b.later(Duration::from_secs(40));
        assert_eq!(b.global("acme", subnet, true), *pool);
        b.gateway(pool, &subnet.replace("0/24", "1")).unwrap();
        b.ask(pool, &subnet.replace("0/24", "2")).unwrap();
    }
    b.later(Duration::from_secs(61));
    assert_eq!(b.global("acme", "10.79.0.0/24", true), pools[1]);
    b.gateway(&pools[1], "10.79.0.1").unwrap();
    assert!(sentence(b.ask(&pools[1], "10.79.0.2")).contains("in use"));
    assert_eq!(former(&b), ["former 10.77.0.3", "former 10.77.0.4"]);
}

/// A new leader names the gateway; whoever requests any is a new network.
#[test]
fn a_request_for_any_gateway_is_of_a_new_network_and_no_restore() {
    let (b, pool) = led();
    b.capabilities();
    assert_eq!(b.global("acme", SUBNET, true), pool);
    b.gateway(&pool, "").unwrap();
    assert!(sentence(b.ask(&pool, "10.77.0.3")).contains("in use"), "{:?}", states(&b));
    b.age_restores(TEN_MINUTES);
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    let free = 254 - 4;
    assert!((0..free).all(|_| b.ask(&pool, "").is_ok()));
    assert!(sentence(b.ask(&pool, "")).contains("is full"), "no running task's address is released");
    restore(&b, &["10.77.0.2"]);
    b.gateway(&pool, "").unwrap();
    assert_eq!(b.ask(&pool, "").unwrap(), "10.77.0.3/24", "a restore goes on when a further network is new");
}

/// A full disk, for example: engine and plugin start, and what exists is not taken for new once there is space.
#[test]
fn capabilities_are_answered_when_the_database_cannot_be_written_and_the_leadership_counts() {
    let (b, pool) = led();
    let away = b.store.path().with_extension("away");
    fs::rename(b.store.path(), &away).unwrap();
    assert!(b.store.write(|tx| tx.set_setting("a", "1")).is_err());
    b.capabilities();
    fs::rename(&away, b.store.path()).unwrap();
    assert_eq!(b.global("acme", SUBNET, true), pool);
    b.gateway(&pool, "10.77.0.1").unwrap();
    b.ask(&pool, "10.77.0.3").unwrap();
    assert!(states(&b).contains(&"former 10.77.0.2".to_owned()), "{:?}", states(&b));
    assert_eq!(b.store.read(|tx| tx.leadership()).unwrap(), 2);
}

#[test]
fn a_leader_that_did_not_change_keeps_its_addresses() {
    let (b, pool) = led();
    // The plugin is enabled again, and a user gives a second network the serial option.
    b.capabilities();
    b.global("acme", SUBNET, true);
    assert!(states(&b).contains(&"former 10.77.0.3".to_owned()));
    b.release(&pool, "10.77.0.4");
    assert_eq!(states(&b).iter().filter(|state| state.starts_with("former")).count(), 0, "{:?}", states(&b));
    b.release_pool(&pool);
    assert_eq!(b.ask(&pool, "10.77.0.9").unwrap(), "10.77.0.9/24", "the first network is on it still");
}

#[test]
fn deleting_a_second_network_keeps_the_first_one_s_addresses() {
    let (b, pool) = led();
    b.capabilities();
    b.global("acme", SUBNET, true);
    b.release_pool(&pool);
    assert_eq!(states(&b).len(), 4, "{:?}", states(&b));
    assert_eq!(b.ask(&pool, "").unwrap(), "10.77.0.5/24");
}

#[test]
fn networks_without_tenant_are_restored_too() {
    let mut b = Bench::new();
    b.capabilities();
    let pools = [b.global("", SUBNET, false), b.global("", SUBNET, false)];
    assert_ne!(pools[0], pools[1]);
    for pool in &pools {
        b.gateway(pool, "").unwrap();
        b.ask(pool, "").unwrap();
    }
    b.later(Duration::from_secs(61));
    b.capabilities();
    assert_eq!([b.global("", SUBNET, true), b.global("", SUBNET, true)], pools);
    for pool in &pools {
        b.gateway(pool, "10.77.0.1").unwrap();
        b.ask(pool, "10.77.0.2").unwrap();
        assert_eq!(b.ask(pool, "").unwrap(), "10.77.0.3/24");
    }
    assert_ne!(b.global("", SUBNET, true), pools[0], "a third one is new");
}

#[test]
fn a_pool_that_no_later_leader_requests_is_released() {
    let (mut b, _) = led();
    let gone = b.global("acme", "10.88.0.0/24", false);
    b.ask(&gone, "").unwrap();
    b.later(Duration::from_secs(601));
    restore(&b, &["10.77.0.2", "10.77.0.3", "10.77.0.4"]);
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    b.age_restores(TEN_MINUTES);
    b.ipam.reclaim().unwrap();
    b.ipam.reclaim().unwrap();
    let pools = b.store.read(|tx| tx.view("pool", None)).unwrap();
    assert_eq!(pools.iter().map(|pool| &pool["subnet"]).collect::<Vec<_>>(), [SUBNET]);
}

/// The daemon is killed while a new leader requests its networks, and the engine starts it: one more leadership.
#[test]
fn a_pool_that_was_restored_before_the_plugin_was_started_again_is_kept() {
    let (mut b, first) = led();
    let second = b.global("acme", "10.88.0.0/24", false);
    b.gateway(&second, "").unwrap();
    b.ask(&second, "").unwrap();
    b.later(Duration::from_secs(3600));
    assert_eq!(restore(&b, &[]), first);
    b.capabilities();
    assert_eq!(b.global("acme", "10.88.0.0/24", true), second);
    b.gateway(&second, "10.88.0.1").unwrap();
    b.ask(&first, "10.77.0.2").unwrap();
    b.ask(&second, "10.88.0.2").unwrap();
    b.age_restores(TEN_MINUTES);
    b.ipam.reclaim().unwrap();
    b.ipam.reclaim().unwrap();
    assert!(sentence(b.ask(&first, "10.77.0.2")).contains("in use"));
    b.ask(&first, "").unwrap();
}

#[test]
fn a_leader_s_lost_database_grants_only_explicit_requests_until_it_is_restored() {
    let (b, pool) = led();
    let b = b.without_database();
    assert!(sentence(b.ask(&pool, "")).contains("restart the engine of the swarm's leader"));
    b.ask(&pool, "10.77.0.9").unwrap();
    assert_eq!(restore(&b, &["10.77.0.2", "10.77.0.9"]), pool);
    assert_eq!(b.ask(&pool, "").unwrap(), "10.77.0.3/24");
}
