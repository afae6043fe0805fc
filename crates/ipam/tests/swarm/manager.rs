// SPDX-License-Identifier: Apache-2.0
//! A manager: a ciao-ipam with its store, and what it was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use anyhow::Result;
use ciao_common::api::ipam::{ReleaseAddress, ReleasePool, RequestAddress, RequestPool};
use ciao_common::store::Store;
use ciao_common::types::PoolId;
use ciao_ipam::{Config, Ipam};
use tempfile::TempDir;

use crate::allocator::Domain;
use crate::clock;

/// Time for a leader to request everything again.
const SETTLED: Duration = Duration::from_secs(600);

/// Time for a new leader to begin, and a little more.
pub(crate) const MINUTE: Duration = Duration::from_secs(61);

/// What a manager granted in one domain and was not told to release.
#[derive(Default)]
pub(crate) struct Granted {
    /// Of this leadership.
    confirmed: BTreeSet<IpAddr>,
    /// Of earlier ones, not requested again.
    former: BTreeSet<IpAddr>,
    /// When the restore began.
    restored: Duration,
}

pub(crate) struct Manager {
    ipam: Ipam,
    store: Arc<Store>,
    now: Duration,
    granted: BTreeMap<Domain, Granted>,
    folder: TempDir,
}

fn open(path: &Path) -> (Ipam, Arc<Store>) {
    let store = Arc::new(Store::open(path).unwrap());
    (Ipam::new(Arc::clone(&store), Config::default()).unwrap(), store)
}

impl Manager {
    pub(crate) fn new() -> Self {
        // In memory: power failures are not the subject.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let (ipam, store) = open(&folder.path().join("ciao.db"));
        Self { ipam, store, now: Duration::ZERO, granted: BTreeMap::new(), folder }
    }

    /// The daemon is killed and started again.
    pub(crate) fn restart(&mut self) {
        // Opened while the old one is: nothing of it is put in order before, as by a kill.
        let path = self.folder.path().join("ciao.db");
        (self.ipam, self.store) = open(&path);
    }

    /// Steps the store's clock and reclaims.
    pub(crate) fn later(&mut self, by: Duration) {
        self.pass(by);
        // A set that was not requested is released once another one is restored.
        self.ipam.reclaim().unwrap();
        self.ipam.reclaim().unwrap();
        let now = self.now;
        for granted in self.granted.values_mut().filter(|granted| now >= granted.restored + SETTLED) {
            granted.former.clear();
        }
    }

    /// The engine finds the plugin enabled, and nothing is requested again in the next minute.
    pub(crate) fn enable(&mut self) {
        self.capabilities();
        self.pass(MINUTE);
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, by: Duration) {
        clock::step(&self.store, by);
        self.restart();
        self.now += by;
    }

    pub(crate) fn has(&self, pool: &PoolId) -> bool {
        self.store.read(|tx| tx.pool_by_id(pool)).unwrap().is_some()
    }

    /// The engine starts, becomes the leader, or finds the plugin enabled.
    pub(crate) fn capabilities(&mut self) {
        let mut asked = std::pin::pin!(self.ipam.capabilities());
        while asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            std::thread::yield_now();
        }
    }

    /// A new leader begins with these domains; others are nobody's.
    pub(crate) fn restore(&mut self, domains: &BTreeSet<Domain>) {
        self.capabilities();
        self.granted.retain(|domain, _| domains.contains(domain));
        for granted in self.granted.values_mut() {
            granted.former.append(&mut granted.confirmed);
            granted.restored = self.now;
        }
    }

    pub(crate) fn request_pool(&self, request: RequestPool) -> PoolId {
        self.ipam.request_pool(request).wait().unwrap().pool_id
    }

    pub(crate) fn release_pool(&mut self, pool: &PoolId, domain: Domain, held: &BTreeSet<IpAddr>) {
        self.ipam.release_pool(ReleasePool { pool_id: pool.to_string() }).wait().unwrap();
        // What nobody holds may have gone with the pool.
        let granted = self.granted.entry(domain).or_default();
        granted.confirmed.retain(|address| held.contains(address));
        granted.former.clear();
    }

    pub(crate) fn release(&mut self, pool: &PoolId, domain: Domain, address: IpAddr) {
        self.ipam.release_address(ReleaseAddress { pool_id: pool.to_string(), address }).wait().unwrap();
        self.granted.entry(domain).or_default().confirmed.remove(&address);
    }

    /// Requests an address, and checks that a dynamic one is nobody's.
    pub(crate) fn request(&mut self, domain: Domain, request: RequestAddress, is_gateway: bool) -> Result<IpAddr> {
        let (pool, is_dynamic) = (request.pool_id.clone(), request.address.is_none());
        let reply = self.ipam.request_address(request).wait()?;
        let address = reply.address.split_once('/').unwrap().0.parse().unwrap();
        let granted = self.granted.entry(domain).or_default();
        if is_dynamic && !is_gateway {
            assert!(!granted.confirmed.contains(&address), "{address} is granted");
            // A network without a tenant may be restored on another set.
            let early = domain.0 > 0 && granted.former.contains(&address) && self.now < granted.restored + SETTLED;
            assert!(!early || is_full(&self.store, &pool), "{address} may still be somebody's, and others are free");
        }
        granted.former.remove(&address);
        granted.confirmed.insert(address);
        Ok(address)
    }

    pub(crate) fn check(&self) {
        self.store.read(|tx| tx.check_addresses()).unwrap();
    }
}

/// Whether a pool has no free address.
fn is_full(store: &Store, pool: &PoolId) -> bool {
    let free = |tx: &ciao_common::store::Tx<'_>| {
        let set = tx.pool_by_id(pool)?.unwrap().set;
        tx.lowest_free(&set, set.subnet.usable())
    };
    store.read(free).unwrap().is_none()
}
