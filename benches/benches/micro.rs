// SPDX-License-Identifier: Apache-2.0
//! Small pieces, with criterion: arithmetic, a lease in the store without the daemon around it, JSON.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

use std::hint::black_box;

use ciao_common::api::endpoint::CreateEndpoint;
use ciao_common::store::{AddressKind, Pool, Scope, Store};
use ciao_common::types::{AddressSpace, Family, Subnet, TenantId};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const ENDPOINT: &str = r#"{"NetworkID":"0f4f1a9c6b2e8d7735aa10ce90b5f4d2e8c61b7a3d5f9e04c2b8a7d6e1f03952",
"EndpointID":"2dacb8013e3c4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c",
"Interface":{"Address":"10.7.0.5/16","AddressIPv6":"","MacAddress":"02:42:0a:07:00:05"},
"Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],
"com.docker.network.portmap":[{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8080,"HostPortEnd":8080}]}}"#;

fn vacancies(criterion: &mut Criterion) {
    for count in [0_u32, 16, 1000] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("ciao.db")).unwrap();
        let tenant: TenantId = "bench".parse().unwrap();
        let owner = tenant.clone();
        store
            .write(move |tx| {
                (0..count).try_for_each(|number| {
                    let subnet = format!("10.{}.{}.0/24", number / 256, number % 256).parse()?;
                    tx.insert_pool_set(Scope::Local, Some(&owner), subnet).map(drop)
                })
            })
            .unwrap();
        let candidate: Subnet = "10.200.0.0/24".parse().unwrap();
        criterion.bench_function(&format!("store: what is in a new pool's way, {count} pools"), |bencher| {
            bencher.iter(|| store.read(|tx| tx.obstacle(Scope::Local, Some(&tenant), black_box(candidate))).unwrap());
        });
    }
}

fn leases(criterion: &mut Criterion) {
    for (name, subnet, taken) in [("empty /24", "10.5.0.0/24", 0), ("/8 with 10000", "11.0.0.0/8", 10_000)] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("ciao.db")).unwrap();
        let subnet: Subnet = subnet.parse().unwrap();
        let pool = store
            .write(move |tx| {
                let set = tx.insert_pool_set(Scope::Local, None, subnet)?;
                tx.insert_pool(&set, &AddressSpace::of(Scope::Local), None, None, false)
            })
            .unwrap();
        let filled = pool.clone();
        store.write(move |tx| (0..taken).try_for_each(|_| lease(tx, &filled).map(drop))).unwrap();
        criterion.bench_function(&format!("store: grant and release, {name}"), |bencher| {
            bencher.iter_batched(
                || pool.clone(),
                |pool| {
                    store.write(move |tx| {
                        let address = lease(tx, &pool)?;
                        tx.delete_address(&pool.set, address)?;
                        tx.give(&pool.set, address)
                    })
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn lease(tx: &ciao_common::store::Tx<'_>, pool: &Pool) -> anyhow::Result<std::net::IpAddr> {
    let number = tx.lowest_free(&pool.set, pool.set.subnet.usable())?.unwrap();
    let address = Family::V4.address(number);
    assert!(tx.take(&pool.set, address)?);
    tx.grant(pool, address, AddressKind::Lease)?;
    Ok(address)
}

fn json(criterion: &mut Criterion) {
    criterion.bench_function("json: CreateEndpoint", |bencher| {
        bencher.iter(|| serde_json::from_slice::<CreateEndpoint>(black_box(ENDPOINT.as_bytes())).unwrap());
    });
}

criterion_group!(micro, vacancies, leases, json);
criterion_main!(micro);
