// SPDX-License-Identifier: Apache-2.0
//! The IPAM driver: pools and addresses of tenants whose subnets may be the same.
//!
//! - [`pool`]: pools granted and released; `choice`: which set of addresses a request for one means;
//! - [`address`]: granting and releasing;
//! - `lease`: whether an address is reserved or abandoned, and how it becomes free;
//! - [`reclaim`]: giving back what nobody claimed;
//! - `vacancy`: where a free default pool lies;
//! - `term`: what a swarm's new leader requests again; `lost`: pools whose record was lost;
//! - [`reconcile`]: references of pools put right;
//! - [`options`]: what a user may say;
//! - [`routes`]: which call goes where;
//! - [`cli`]: the daemon and the lists.

pub mod address;
mod choice;
pub mod cli;
mod lease;
mod lost;
pub mod options;
pub mod pool;
pub mod reclaim;
pub mod reconcile;
pub mod routes;
mod term;
mod vacancy;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use ciao_common::store::Store;

use options::DefaultPool;

/// The IPAM driver. Its methods are named after Docker's calls.
pub struct Ipam {
    store: Arc<Store>,
    config: Config,
    /// Where the last look for abandoned leases stopped.
    looked_at: Mutex<(i64, IpAddr)>,
    hints: Arc<vacancy::Hints>,
}

/// Where looking begins: before the first address of the first set.
pub(crate) const START: (i64, IpAddr) = (0, IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// What an administrator may set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where pools come from when nobody names a subnet.
    pub default_pools: Vec<DefaultPool>,
    /// How long a lease may wait for its endpoint. Longer than the engine's time for retries, about 15 s a call.
    pub grace: Duration,
    /// How long an explicit request must wait to take over such a lease.
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
    /// A driver on `store`. IPv6 default pools come from a ULA prefix (RFC 4193) that the store keeps, made up at the
    /// first start.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(store: Arc<Store>, mut config: Config) -> Result<Self> {
        let fresh = options::random_ula();
        let ula = store.write(move |tx| {
            tx.rename_database()?;
            tx.setting_or("ula", &fresh)
        })?;
        config.default_pools.push(DefaultPool::new(ula.parse()?, 64)?);
        Ok(Self { store, config, looked_at: Mutex::new(START), hints: Arc::default() })
    }
}
