// SPDX-License-Identifier: Apache-2.0
//! The store as the daemons use it: one file, several connections.

mod events;
mod failing;
mod memory;
mod opening;
mod pages;
mod versions;

use std::net::IpAddr;

use anyhow::{bail, ensure};
use tempfile::TempDir;

use super::*;
use crate::types::{AddressRange, AddressSpace, Subnet, TenantId};

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("ciao.db")).unwrap();
    (folder, store)
}

fn subnet(text: &str) -> Subnet {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pool of tenant red with a network of ciao-net on it, and that network.
fn network(store: &Store) -> (Pool, Network) {
    store
        .write(|tx| {
            let tenant: TenantId = "red".parse()?;
            let set = tx.insert_pool_set(Scope::Local, Some(&tenant), subnet("10.0.0.0/24"))?;
            let pool = tx.insert_pool(&set, &AddressSpace::of(Scope::Local), None, None, false)?;
            let network = Network {
                id: "7".repeat(64).parse()?,
                tenant: Some(tenant),
                namespace: Some("ciao-red".to_owned()),
                bridge: "br0".parse()?,
                mtu: None,
                egress: Egress::Nat,
                vnics: VnicPolicy::Auto,
                dst_prefix: "eth".to_owned(),
                egress6: Egress6::Nat,
                secured: true,
                icc: true,
                egress_allow: Vec::new(),
                host_access: Vec::new(),
                options: "[]".to_owned(),
                subnets: vec![NetworkSubnet {
                    subnet: set.subnet,
                    gateway: Some(address("10.0.0.1")),
                    aux: Vec::new(),
                    set_id: Some(set.id),
                    pool: None,
                }],
                routes: Vec::new(),
                remote: false,
            };
            tx.insert_network(&network)?;
            Ok((pool, network))
        })
        .unwrap()
}

#[test]
fn a_failing_change_undoes_only_itself() {
    let (_folder, store) = store();
    let kept = store.write(|tx| tx.insert_pool_set(Scope::Local, None, subnet("10.0.0.0/24"))).unwrap();
    let failed: Result<()> = store.write(|tx| {
        tx.insert_pool_set(Scope::Local, None, subnet("10.1.0.0/24"))?;
        bail!("no")
    });
    assert_eq!(failed.unwrap_err().to_string(), "no");
    let sets = store.read(|tx| tx.pool_sets_touching(Scope::Local, None, subnet("0.0.0.0/0"))).unwrap();
    assert_eq!(sets, [kept]);
}

/// Pages in the log, each with a header of 24 bytes.
fn pages_of(folder: &TempDir) -> u64 {
    std::fs::metadata(folder.path().join("ciao.db-wal")).unwrap().len() / (4096 + 24)
}

#[test]
fn a_lease_writes_two_pages_and_so_does_its_release() {
    let (folder, store) = store();
    let pool = network(&store).0;
    let pages = || pages_of(&folder);
    let before = pages();
    let (lease, leased) = (address("10.0.0.7"), pool.clone());
    store
        .write(move |tx| {
            assert!(tx.take(&leased.set, lease)?);
            tx.grant(&leased, lease, AddressKind::Lease)
        })
        .unwrap();
    assert_eq!(pages() - before, 2, "the address and the free range");
    store
        .write(move |tx| {
            tx.delete_address(&pool.set, lease)?;
            tx.give(&pool.set, lease)
        })
        .unwrap();
    assert_eq!(pages() - before, 4);
}

#[test]
fn a_panicking_change_is_an_error_and_the_store_goes_on() {
    let (_folder, store) = store();
    let failed: Result<()> = store.write(|_| panic!("expected by the test"));
    assert!(failed.unwrap_err().to_string().contains("panicked"));
    assert_eq!(store.write(|tx| tx.setting_or("a", "1")).unwrap(), "1");
}

#[test]
fn many_writers_share_commits_and_lose_nothing() {
    let (_folder, store) = store();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..50 {
                    let name = format!("{thread}-{n}");
                    store.write(move |tx| tx.setting_or(&name, "x")).unwrap();
                }
            });
        }
    });
    let count = store
        .read(|tx| tx.first("SELECT count(*) FROM setting WHERE name LIKE '%-%'", [], |row| row.get::<_, i64>(0)))
        .unwrap();
    assert_eq!(count, Some(400));
}

#[test]
fn a_second_store_on_the_file_sees_what_the_first_committed() {
    let (_folder, store) = store();
    store.write(|tx| tx.setting_or("a", "1")).unwrap();
    let second = Store::open(store.path()).unwrap();
    assert_eq!(second.write(|tx| tx.setting_or("a", "2")).unwrap(), "1");
}

#[test]
fn a_file_that_is_not_a_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ciao.db");
    std::fs::write(&path, "x".repeat(4096)).unwrap();
    let error = format!("{:#}", Store::open(&path).err().unwrap());
    assert!(error.contains("not a ciao database"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "x".repeat(4096));
}

#[test]
fn an_administrator_s_open_transaction_is_a_temporary_error() {
    let (_folder, store) = store();
    let other = Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = format!("{:#}", store.write(|tx| tx.setting_or("a", "1")).unwrap_err());
    assert!(error.contains("end its open transaction"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.write(|tx| tx.setting_or("a", "1")).unwrap(), "1");
}

#[test]
fn free_ranges_stay_consistent() {
    let (_folder, store) = store();
    store
        .write(|tx| {
            let set = tx.insert_pool_set(Scope::Local, None, subnet("10.0.0.0/29"))?;
            let pool = tx.insert_pool(&set, &AddressSpace::of(Scope::Local), None, None, false)?;
            for text in ["10.0.0.0", "10.0.0.7", "10.0.0.3", "10.0.0.4", "10.0.0.2"] {
                assert!(tx.take(&set, address(text))?);
                assert!(!tx.take(&set, address(text))?, "{text} is taken once");
                tx.grant(&pool, address(text), AddressKind::Lease)?;
                tx.check_addresses()?;
            }
            let all = AddressRange::new(0, u128::MAX).unwrap();
            let lowest = tx.lowest_free(&set, all)?.map(|n| set.subnet.family().address(n));
            assert_eq!(lowest, Some(address("10.0.0.1")));
            for text in ["10.0.0.4", "10.0.0.0", "10.0.0.2", "10.0.0.3", "10.0.0.7"] {
                tx.delete_address(&set, address(text))?;
                tx.give(&set, address(text))?;
                tx.check_addresses()?;
            }
            let runs = tx.first("SELECT count(*) FROM free_range", [], |row| row.get::<_, i64>(0))?;
            assert_eq!(runs, Some(1), "all joined again");
            Ok(())
        })
        .unwrap();
}

/// SQLite's query plan of a statement. Unbound parameters are NULL; no plan depends on them.
fn plan_of(store: &Store, statement: &str) -> Vec<String> {
    let reader = Store::open_reading(store.path()).unwrap();
    let mut explain = reader.conn.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    explain.raw_query().mapped(|row| row.get(3)).map(rusqlite::Result::unwrap).collect()
}

#[test]
fn orphaned_leases_are_found_by_index_without_a_table_scan() {
    let (_folder, store) = store();
    let expected = [
        (unclaimed::IS_ABANDONED, "SEARCH a USING PRIMARY KEY (set_id=? AND key=?)"),
        (unclaimed::NEWLY_ABANDONED, "SEARCH a USING PRIMARY KEY ((set_id,key)>(?,?))"),
        (gateway::GATEWAY_OF_SET, "SEARCH address_record USING INDEX address_gateway (set_id=?)"),
        (unclaimed::UNCLAIMED_OF_SET, "SEARCH address_record USING INDEX address_unclaimed (set_id=? AND unclaimed<?)"),
        (unclaimed::UNCLAIMED, "SEARCH a USING INDEX address_unclaimed (set_id=? AND unclaimed>?)"),
        (address::RESERVED_OF_SET, "SEARCH address_record USING INDEX address_kept (set_id=?)"),
        (address::RESERVED, "SEARCH a USING INDEX address_kept (set_id=?)"),
    ];
    for (statement, search) in expected {
        let plan = plan_of(&store, statement);
        assert!(plan.iter().any(|line| line.starts_with(search)), "{statement}: {plan:#?}");
        for scan in ["SCAN a", "SCAN e", "SCAN n"] {
            assert!(!plan.iter().any(|line| line.starts_with(scan)), "{statement}: {plan:#?}");
        }
    }
}

#[test]
fn every_view_can_be_read() {
    let (_folder, store) = store();
    store
        .read(|tx| {
            for view in ["pool", "lease", "network", "endpoint", "vnic", "port"] {
                assert!(tx.view(view, None)?.is_empty(), "{view}");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_step_of_the_host_s_clock_moves_no_time_until_the_next_boot() {
    let (folder, store) = store();
    let (path, first) = (folder.path().join("ciao.db"), store.now());
    let wall = SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(wall.abs_diff(u128::try_from(first).unwrap()) < 2_000, "it begins with the host's");
    let boot = store.read(|tx| tx.setting("clock")).unwrap().unwrap();
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    for wall in [now - hour, now + hour] {
        let stepped = Store::open_at(&path, wall).unwrap();
        assert!((0..10_000).contains(&(stepped.now() - first)), "{wall:?}: {}", stepped.now() - first);
    }
    store.write(|tx| tx.set_setting("clock", "another-boot 0")).unwrap();
    let booted = Store::open_at(&path, SystemTime::now() + Duration::from_secs(3600)).unwrap();
    assert!((3_599_000..3_610_000).contains(&(booted.now() - first)), "after a boot it is the host's again");
    assert_ne!(booted.read(|tx| tx.setting("clock")).unwrap().unwrap(), boot);
}
