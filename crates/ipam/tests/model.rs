// SPDX-License-Identifier: Apache-2.0
//! The allocator against a simple model: random pools, sub-pools, tenants, requests and releases, in both orders of
//! allocation, IPv4 and IPv6.
//!
//! The model is a set of addresses per subnet of a tenant, and predicts the result of each call. After each call the
//! store's invariants are checked, and at the end that everything can be released.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ciao_common::api::go::Options;
use ciao_common::api::ipam::{ReleaseAddress, ReleasePool, RequestAddress, RequestPool, SERIAL};
use ciao_common::store::Store;
use ciao_common::types::{AddressRange, PoolId, Subnet, number};
use ciao_ipam::{Config, Ipam};
use proptest::prelude::*;
use serde_json::Value;

/// A random step.
#[derive(Clone, Debug)]
enum Step {
    Pool { tenant: usize, subnet: usize, sub_pool: bool, serial: bool },
    ReleasePool { pool: usize },
    Any { pool: usize },
    Exactly { pool: usize, offset: u8 },
    Release { held: usize },
    ReleaseTwice { held: usize },
}

/// Small, so that pools run full; the last overlaps the first.
const SUBNETS: [(&str, &str); 5] = [
    ("10.0.0.0/28", "10.0.0.8/30"),
    ("10.0.1.0/30", "10.0.1.0/31"),
    ("10.0.2.4/31", "10.0.2.4/32"),
    ("fd00::/124", "fd00::8/126"),
    ("10.0.0.8/29", "10.0.0.8/30"),
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..3_usize, 0..SUBNETS.len(), any::<bool>(), any::<bool>())
            .prop_map(|(tenant, subnet, sub_pool, serial)| Step::Pool { tenant, subnet, sub_pool, serial }),
        1 => any::<usize>().prop_map(|pool| Step::ReleasePool { pool }),
        8 => any::<usize>().prop_map(|pool| Step::Any { pool }),
        4 => (any::<usize>(), any::<u8>()).prop_map(|(pool, offset)| Step::Exactly { pool, offset }),
        4 => any::<usize>().prop_map(|held| Step::Release { held }),
        1 => any::<usize>().prop_map(|held| Step::ReleaseTwice { held }),
    ]
}

/// One set of addresses: of a tenant and subnet, or of one pool that names no tenant.
type SetKey = (usize, Subnet, usize);

#[derive(Clone)]
struct Pool {
    id: PoolId,
    set: SetKey,
    sub_pool: Option<Subnet>,
    serial: bool,
    cursor: Option<u128>,
    refs: usize,
}

struct World {
    ipam: Ipam,
    store: Arc<Store>,
    pools: Vec<Pool>,
    /// Each address that is held, and the pool it was granted through.
    held: BTreeMap<(SetKey, u128), PoolId>,
    made: usize,
}

/// Tenant 0: none.
fn tenant_options(tenant: usize, serial: bool) -> Options {
    let name = format!("t{tenant}");
    let mut pairs = Vec::new();
    if tenant > 0 {
        pairs.push(("tenant", name.as_str()));
    }
    if serial {
        pairs.push((SERIAL, "true"));
    }
    pairs.as_slice().into()
}

impl World {
    fn pool(&mut self, tenant: usize, subnet: usize, sub_pool: bool, serial: bool) {
        let (pool, sub) = SUBNETS[subnet];
        let (pool, sub): (Subnet, Subnet) = (pool.parse().unwrap(), sub.parse().unwrap());
        let sub = sub_pool.then_some(sub);
        let request = RequestPool {
            address_space: "local".into(),
            pool: Some(pool),
            sub_pool: sub,
            options: tenant_options(tenant, serial),
            v6: pool.network().is_ipv6(),
        };
        let overlaps =
            tenant > 0 && self.pools.iter().any(|p| p.set.0 == tenant && p.set.1 != pool && p.set.1.overlaps(pool));
        let reply = self.ipam.request_pool(request).wait();
        assert_eq!(reply.is_err(), overlaps, "{reply:?}");
        let Ok(reply) = reply else { return };
        self.made += 1;
        let set = (tenant, pool, if tenant > 0 { 0 } else { self.made });
        match self.pools.iter_mut().find(|p| p.set == set && p.sub_pool == sub && p.serial == serial) {
            Some(same) => {
                assert_eq!(same.id, reply.pool_id);
                same.refs += 1;
            }
            None => {
                assert!(self.pools.iter().all(|p| p.id != reply.pool_id), "ids are never used twice");
                self.pools.push(Pool { id: reply.pool_id, set, sub_pool: sub, serial, cursor: None, refs: 1 });
            }
        }
    }

    fn release_pool(&mut self, index: usize) {
        let id = self.pools[index].id.clone();
        self.ipam.release_pool(ReleasePool { pool_id: id.to_string() }).wait().unwrap();
        self.pools[index].refs -= 1;
        if self.pools[index].refs == 0 {
            let gone = self.pools.remove(index);
            self.held.retain(|(set, _), pool| *set != gone.set || *pool != id);
        }
    }

    fn expected(&self, pool: &Pool) -> Option<u128> {
        let usable = pool.set.1.usable();
        let range = match pool.sub_pool {
            Some(sub) => usable.intersection(sub.range())?,
            None => usable,
        };
        let free = |n: &u128| !self.held.contains_key(&(pool.set, *n));
        let AddressRange { first, last } = range;
        let after = pool.cursor.filter(|_| pool.serial).map_or(first, |cursor| first.max(cursor + 1));
        (after..=last).find(free).or_else(|| (first..=last).find(free))
    }

    fn any(&mut self, index: usize) {
        let pool = self.pools[index].clone();
        let expected = self.expected(&pool);
        let request = RequestAddress { pool_id: pool.id.clone(), address: None, options: Options::default() };
        let answered = self.ipam.request_address(request).wait().ok().map(|reply| reply.address);
        let family = pool.set.1.family();
        assert_eq!(answered, expected.map(|n| pool.set.1.cidr(family.address(n))));
        if let Some(number) = expected {
            self.held.insert((pool.set, number), pool.id);
            self.pools[index].cursor = Some(number).filter(|_| pool.serial);
        }
    }

    fn exactly(&mut self, index: usize, offset: u8) {
        let pool = self.pools[index].clone();
        let number = pool.set.1.range().first + u128::from(offset % 20);
        let address = pool.set.1.family().address(number);
        let free = pool.set.1.contains(address) && !self.held.contains_key(&(pool.set, number));
        let request = RequestAddress { pool_id: pool.id.clone(), address: Some(address), options: Options::default() };
        assert_eq!(self.ipam.request_address(request).wait().is_ok(), free, "{address}");
        if free {
            self.held.insert((pool.set, number), pool.id);
        }
    }

    fn release(&mut self, index: usize, times: usize) {
        let Some(((set, number), pool)) = self.held.iter().nth(index % self.held.len().max(1)) else { return };
        let (key, pool_id) = ((*set, *number), pool.clone());
        let address: IpAddr = set.1.family().address(*number);
        for _ in 0..times {
            self.ipam.release_address(ReleaseAddress { pool_id: pool_id.to_string(), address }).wait().unwrap();
        }
        self.held.remove(&key);
    }

    fn step(&mut self, step: &Step) {
        let of = |index: usize, count: usize| index % count.max(1);
        match *step {
            Step::Pool { tenant, subnet, sub_pool, serial } => self.pool(tenant, subnet, sub_pool, serial),
            Step::Release { held } => self.release(held, 1),
            Step::ReleaseTwice { held } => self.release(held, 2),
            _ if self.pools.is_empty() => {}
            Step::ReleasePool { pool } => self.release_pool(of(pool, self.pools.len())),
            Step::Any { pool } => self.any(of(pool, self.pools.len())),
            Step::Exactly { pool, offset } => self.exactly(of(pool, self.pools.len()), offset),
        }
    }

    /// Compares the store with the model.
    fn check(&self) {
        let leases = self.store.read(|tx| tx.check_addresses().and_then(|()| tx.view("lease", None))).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let address = |value: &Value| value.as_str().unwrap().parse().unwrap();
        let recorded: BTreeSet<_> =
            leases.iter().map(|lease| (text(&lease["tenant"]), number(address(&lease["address"])))).collect();
        assert_eq!(leases.len(), self.held.len());
        for ((tenant, _, _), number) in self.held.keys() {
            let tenant = (*tenant > 0).then(|| format!("t{tenant}"));
            assert!(recorded.contains(&(tenant, *number)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_allocator_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..80)) {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        let ipam = Ipam::new(Arc::clone(&store), Config::default()).unwrap();
        let mut world = World { ipam, store, pools: Vec::new(), held: BTreeMap::new(), made: 0 };
        for step in &steps {
            world.step(step);
            world.check();
        }
        while !world.pools.is_empty() {
            world.release_pool(0);
        }
        world.check();
    }
}
