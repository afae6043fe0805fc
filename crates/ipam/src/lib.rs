// SPDX-License-Identifier: Apache-2.0
//! The IPAM driver: pools and addresses, with overlapping subnets of different tenants.
//!
//! - [`pool`]: requests and releases of pools; `choice`: the set of addresses of a request;
//! - [`address`]: requests and releases of addresses; `lease`: release of a single address;
//! - [`reclaim`]: release of orphaned leases, gateways and reservations;
//! - `vacancy`: search for a free default pool;
//! - `term`: requests repeated by a swarm's new leader; `lost`: pools whose record was lost;
//! - [`reconcile`]: reference counts of pools against Docker's networks;
//! - [`options`]: options of users and administrators;
//! - [`routes`]: the table of calls; [`control`]: the control socket;
//! - [`cli`]: the command line.

pub mod address;
mod choice;
pub mod cli;
pub mod control;
mod lease;
mod lost;
mod metrics;
pub mod options;
mod pages;
pub mod pool;
pub mod reclaim;
pub mod reconcile;
pub mod routes;
mod term;
mod vacancy;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use ciao_common::store::Store;

use options::DefaultPool;

/// The IPAM driver. Its methods are named after Docker's calls.
pub struct Ipam {
    store: Arc<Store>,
    config: Config,
    /// Position of the scan for orphaned leases.
    scanned: Mutex<(i64, IpAddr)>,
    hints: Arc<vacancy::Hints>,
    /// Number of leaderships. The store's is lower if it could not be written.
    leadership: Arc<AtomicI64>,
}

/// Start of the scan: before the first address of the first set.
pub(crate) const START: (i64, IpAddr) = (0, IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// Configuration of the daemon.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pools for requests without a subnet.
    pub default_pools: Vec<DefaultPool>,
    /// Time until a lease without an endpoint is orphaned. Longer than the engine's retries, about 15 s per call.
    pub grace: Duration,
    /// Time until an explicit request can take over such a lease.
    pub takeover: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_pools: options::builtin_pools(),
            grace: Duration::from_secs(60),
            takeover: Duration::from_secs(20),
        }
    }
}

impl Ipam {
    /// A driver on `store`. IPv6 default pools are allocated from a ULA prefix (RFC 4193), chosen at the first start
    /// and kept in the store.
    pub fn new(store: Arc<Store>, mut config: Config) -> Result<Self> {
        let fresh = options::random_ula();
        let (ula, leadership) = store.write(move |tx| {
            tx.rename_database()?;
            Ok((tx.setting_or("ula", &fresh)?, tx.leadership()?))
        })?;
        config.default_pools.push(DefaultPool::new(ula.parse()?, 64)?);
        Ok(Self {
            store,
            config,
            scanned: Mutex::new(START),
            hints: Arc::default(),
            leadership: Arc::new(leadership.into()),
        })
    }
}
