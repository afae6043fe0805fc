// SPDX-License-Identifier: Apache-2.0
//! Addresses after their grant: releases, reservations, lost replies.

use std::time::Duration;

use ciao_common::api::go::Options;
use ciao_common::api::ipam::RequestAddress;
use ciao_common::store::Answer;
use ciao_ipam::Config;

use crate::bench::{Bench, sentence};

#[test]
fn a_failed_network_create_releases_only_the_pool_and_leaks_nothing() {
    let b = Bench::new();
    let empty = b.state();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.gateway(&pool, "10.5.0.1").unwrap();
    b.ask(&pool, "10.5.0.9").unwrap();
    b.release_pool(&pool);
    assert_eq!(b.state(), empty);
}

#[test]
fn releasing_what_is_unknown_is_a_success() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.release(&pool, "10.5.0.77");
    b.release(&"gone".parse().unwrap(), "10.5.0.77");
    b.release_pool(&"gone".parse().unwrap());
}

#[test]
fn a_reservation_is_never_granted_dynamically_and_outlives_its_lease() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/29");
    b.vnic("acme", "10.5.0.0/29", "10.5.0.2");
    b.vnic("other", "10.5.0.0/29", "10.5.0.3");
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.1/29");
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.3/29", ".2 is an instance's; .3 is only in another tenant");
    assert_eq!(b.ask(&pool, "10.5.0.2").unwrap(), "10.5.0.2/29", "the instance's own container asks for it");
    assert!(sentence(b.ask(&pool, "10.5.0.2")).contains("in use"));
    b.release(&pool, "10.5.0.2");
    while let Ok(address) = b.ask(&pool, "") {
        assert_ne!(address, "10.5.0.2/29", "docker stop must not lose it");
    }
    assert_eq!(b.ask(&pool, "10.5.0.2").unwrap(), "10.5.0.2/29");
}

#[test]
fn an_instance_s_address_is_no_network_s_gateway() {
    let b = Bench::new();
    b.vnic("acme", "10.5.0.0/29", "10.5.0.2");
    let pool = b.tenant_pool("acme", "10.5.0.0/29");
    assert_eq!(
        sentence(b.gateway(&pool, "10.5.0.2")),
        "gateway 10.5.0.2 of pool 10.5.0.0/29 is reserved for an instance: give another --gateway, see \"ciao-ipam lease list\""
    );
    assert_eq!(b.gateway(&pool, "10.5.0.3").unwrap(), "10.5.0.3/29");
}

#[test]
fn a_reservation_that_was_deleted_is_free_when_the_pool_is_short() {
    let b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/30");
    let vnic = b.vnic("acme", "10.5.0.0/30", "10.5.0.1");
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.2/30");
    b.store.write(move |tx| tx.delete_vnic(&vnic)).unwrap();
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.1/30");
}

#[test]
fn a_lease_whose_endpoint_was_deleted_waits_for_the_engine_to_release_it() {
    let mut b = Bench::with(Config { grace: Duration::ZERO, ..Config::default() });
    let pool = b.tenant_pool("acme", "10.5.0.0/30");
    b.gateway(&pool, "10.5.0.1").unwrap();
    b.network("acme", "10.5.0.0/30", "10.5.0.1");
    // Granted long ago, claimed by an endpoint, which is gone now.
    b.ask(&pool, "").unwrap();
    b.later(Duration::from_secs(30));
    assert_eq!(b.ipam.reclaim().unwrap(), 0, "the engine may still release it");
    assert!(b.ask(&pool, "").is_err());
    // It does: whoever gets the address next keeps it.
    b.release(&pool, "10.5.0.2");
    b.ask(&pool, "").unwrap();
    b.later(Duration::from_secs(30));
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    // Nobody releases that one.
    b.later(Duration::from_secs(30));
    assert_eq!(b.ipam.reclaim().unwrap(), 1);
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.2/30");
}

#[test]
fn a_gateway_that_was_released_twice_is_granted_again() {
    let mut b = Bench::with(Config { grace: Duration::ZERO, ..Config::default() });
    let pool = b.tenant_pool("acme", "10.5.0.0/24");
    b.gateway(&pool, "10.5.0.1").unwrap();
    b.network("acme", "10.5.0.0/24", "10.5.0.1");
    b.release(&pool, "10.5.0.1");
    b.later(Duration::from_secs(1));
    b.ipam.reclaim().unwrap();
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.2/24");
    assert!(sentence(b.ask(&pool, "10.5.0.1")).contains("in use as a gateway"));
    b.ipam.reclaim().unwrap();
    b.release(&pool, "10.5.0.1");
    assert_eq!(b.ask(&pool, "10.5.0.1").unwrap(), "10.5.0.1/24", "it was granted once");
}

#[test]
fn a_full_pool_releases_orphaned_leases() {
    let mut b = Bench::with(Config { grace: Duration::ZERO, ..Config::default() });
    let pool = b.tenant_pool("acme", "10.5.0.0/30");
    b.gateway(&pool, "10.5.0.1").unwrap();
    b.network("acme", "10.5.0.0/30", "10.5.0.1");
    b.ask(&pool, "").unwrap();
    b.later(Duration::from_secs(1));
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    assert!(sentence(b.ask(&pool, "")).contains("is full"));
    b.later(Duration::from_secs(30));
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.2/30");
}

#[test]
fn an_orphaned_lease_is_granted_to_an_explicit_request_among_any_number() {
    let mut b = Bench::new();
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.network("acme", "10.5.0.0/16", "10.5.0.1");
    for _ in 0..1100 {
        b.ask(&pool, "").unwrap();
    }
    assert!(sentence(b.ask(&pool, "10.5.4.76")).contains("in use"), "it may still be claimed");
    b.later(Duration::from_secs(30));
    assert_eq!(b.ask(&pool, "10.5.4.76").unwrap(), "10.5.4.76/16");
}

#[test]
fn a_lease_that_was_claimed_waits_again_when_it_is_orphaned_again() {
    let mut b = Bench::with(Config { grace: Duration::ZERO, ..Config::default() });
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.network("acme", "10.5.0.0/16", "10.5.0.1");
    b.ask(&pool, "10.5.0.2").unwrap();
    b.later(Duration::from_secs(1));
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    // Without ciao-net's network it may be another driver's.
    b.store.write(|tx| tx.delete_network(&"7".repeat(64).parse()?)).unwrap();
    b.later(Duration::from_secs(30));
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    b.network("acme", "10.5.0.0/16", "10.5.0.1");
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    b.later(Duration::from_secs(30));
    assert_eq!(b.ipam.reclaim().unwrap(), 1);
}

#[test]
fn orphaned_leases_are_released_though_they_are_more_than_a_page() {
    let mut b = Bench::with(Config { grace: Duration::ZERO, takeover: Duration::ZERO, ..Config::default() });
    let pool = b.tenant_pool("acme", "10.5.0.0/16");
    b.network("acme", "10.5.0.0/16", "10.5.0.254");
    for _ in 0..1100 {
        b.ask(&pool, "").unwrap();
    }
    b.later(Duration::from_secs(1));
    assert_eq!(b.ipam.reclaim().unwrap(), 1100);
    assert_eq!(b.ask(&pool, "").unwrap(), "10.5.0.1/16");
    b.state();
}

#[test]
fn the_reference_count_of_a_gateway_is_that_of_its_networks_though_replies_were_lost() {
    let mut b = Bench::with(Config { grace: Duration::ZERO, ..Config::default() });
    let pool = b.tenant_pool("acme", "10.5.0.0/24");
    b.gateway(&pool, "10.5.0.1").unwrap();
    b.network("acme", "10.5.0.0/24", "10.5.0.1");
    // Two more networks that fail: the engine lost the reply to their gateway's request, and gives only the pool back.
    for gateway in ["10.5.0.1", "10.5.0.254"] {
        b.tenant_pool("acme", "10.5.0.0/24");
        b.gateway(&pool, gateway).unwrap();
        b.later(Duration::from_secs(1));
        assert_eq!(b.ipam.reclaim().unwrap(), 0, "as long as the pool is held, the network may be under way");
        b.release_pool(&pool);
        assert_eq!(b.ipam.reclaim().unwrap(), 1);
    }
    assert_eq!(b.ask(&pool, "10.5.0.254").unwrap(), "10.5.0.254/24");
    assert!(b.ask(&pool, "10.5.0.1").is_err(), "the first network has it");
    b.release(&pool, "10.5.0.1");
    assert_eq!(b.ask(&pool, "10.5.0.1").unwrap(), "10.5.0.1/24");
}

#[test]
fn leases_of_another_network_driver_are_never_reclaimed() {
    let config = Config { grace: Duration::ZERO, takeover: Duration::ZERO, ..Config::default() };
    let mut b = Bench::with(config);
    let (pool, _) = b.pool("10.5.0.0/30", "", &[]).unwrap();
    b.ask(&pool, "10.5.0.1").unwrap();
    b.ask(&pool, "").unwrap();
    b.later(Duration::from_secs(1));
    assert_eq!(b.ipam.reclaim().unwrap(), 0);
    assert!(b.ask(&pool, "").is_err());
    assert!(b.ask(&pool, "10.5.0.1").is_err());
}

/// On a pool of its own or the same one, in the set of addresses of a network of ciao-net.
#[test]
fn leases_of_another_network_driver_are_not_reclaimed_beside_a_network_of_ciao_net() {
    let config = Config { grace: Duration::ZERO, takeover: Duration::ZERO, ..Config::default() };
    for range in ["", "10.5.0.128/25"] {
        let mut b = Bench::with(config.clone());
        let pool = b.tenant_pool("acme", "10.5.0.0/24");
        b.gateway(&pool, "10.5.0.1").unwrap();
        b.network("acme", "10.5.0.0/24", "10.5.0.1");
        let (others, _) = b.pool("10.5.0.0/24", range, &[("tenant", "acme")]).unwrap();
        let lease = b.ask(&others, "").unwrap();
        let address = lease.trim_end_matches("/24");
        b.later(Duration::from_secs(1));
        assert_eq!(b.ipam.reclaim().unwrap(), 0, "{range}");
        assert!(sentence(b.ask(&pool, address)).contains("in use"), "{range}");
        // Where a network of ciao-net has every reference of the pool, it is nobody's.
        b.release_pool(&others);
        b.ask(&pool, "10.5.0.9").unwrap();
        b.later(Duration::from_secs(1));
        assert_eq!(b.ipam.reclaim().unwrap(), if range.is_empty() { 2 } else { 1 });
    }
}

#[test]
fn requests_of_one_commit_are_refused_alone_when_a_pool_is_full_behind_its_reservations() {
    let b = Bench::new();
    let pool = b.tenant_pool("red", "10.5.0.0/29");
    b.vnic("red", "10.5.0.0/29", "10.5.0.2");
    b.vnic("red", "10.5.0.0/29", "10.5.0.4");
    let (held, go) = std::sync::mpsc::channel::<()>();
    let holding = b.store.begin(move |_| {
        assert!(go.recv().is_err());
        Ok(())
    });
    let request = || RequestAddress { pool_id: pool.clone(), address: None, options: Options::default() };
    let begun: Vec<_> = (0..7).map(|_| b.ipam.request_address(request())).collect();
    drop(held);
    holding.wait().unwrap();
    let answers: Vec<_> = begun.into_iter().map(Answer::wait).collect();
    let granted: Vec<_> = answers.iter().flatten().map(|reply| reply.address.as_str()).collect();
    assert_eq!(granted, ["10.5.0.1/29", "10.5.0.3/29", "10.5.0.5/29", "10.5.0.6/29"]);
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(refused.to_string().starts_with("no available addresses on this pool"), "{refused:#}");
    }
    b.state();
}
