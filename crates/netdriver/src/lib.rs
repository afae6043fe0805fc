// SPDX-License-Identifier: Apache-2.0
//! The network driver: tenants' networks, VNICs, and Docker's calls.
//!
//! Unless a method's comment adds something, its error is one of the disk or the kernel. An error is a sentence that
//! names the value.
//!
//! - [`docker`]: Docker's calls; [`launcher`]: VNICs created before their containers; [`control`]: its socket;
//! - [`exchange`]: hosts announce their addresses to each other;
//! - [`reconcile`]: differences between records and kernel, repaired;
//! - `fabric`: what a record needs in the kernel; [`rules`]: nftables; [`kernel`]: Linux;
//! - [`names`]: what things are called; [`cli`]: the programs.

mod address_check;
mod alias;
mod attachment;
pub mod cli;
mod contest;
pub mod control;
pub mod docker;
pub mod exchange;
mod fabric;
pub mod kernel;
pub mod launcher;
pub mod names;
mod passes;
mod peers;
mod ready;
pub mod reconcile;
mod rollback;
pub mod rules;
mod uninstall;
mod uplink_pool;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use ciao_common::store::{Scope, Store};
use ciao_common::types::{MacAddr, Subnet, VnicId};

use fabric::Fabric;
pub use fabric::{Shares, TunnelConfig};
use kernel::Kernel;
pub use rules::EgressPolicy;
use uplink_pool::UplinkPool;

/// The network driver. Its methods are named after Docker's calls; none of them blocks longer than disk and kernel do.
pub struct Driver {
    store: Arc<Store>,
    fabric: Fabric,
    ready: ready::Ready,
    contests: contest::Contests,
    /// Failures that are logged already, a sentence each: a timer that finds one again and again logs it once.
    failures: Mutex<BTreeSet<String>>,
    passes: Mutex<passes::Passes>,
    peers: peers::Peers,
    config: Config,
}

/// What an administrator may set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The scope that Docker sees: networks of one engine, or of a swarm.
    pub scope: Scope,
    /// Where the addresses of uplinks come from, pairs of them.
    pub uplink_pool: Subnet,
    /// What each tenant may have of what all share.
    pub shares: Shares,
    /// How tunnels reach other hosts.
    pub tunnel: TunnelConfig,
    /// The file of hosts, which tell each other their addresses; `None`: a controller gives hosts and addresses.
    pub hosts_file: Option<PathBuf>,
    /// What tenants reach beyond the host.
    pub egress: EgressPolicy,
    /// Interval of reconciliation.
    pub reconcile_every: Duration,
    /// Whether metrics have bytes and packets of each VNIC.
    pub metrics_vnics: bool,
}

/// The default of [`TunnelConfig::port`]: not 4789, which Docker's overlay networks and others use, not 8472, and not
/// one of those that the kernel gives to clients.
pub const TUNNEL_PORT: u16 = 14789;

impl Default for Config {
    fn default() -> Self {
        let uplink_pool = "169.254.64.0/18".parse().expect("a constant");
        Self {
            scope: Scope::Local,
            uplink_pool,
            shares: Shares::default(),
            tunnel: TunnelConfig { port: TUNNEL_PORT, link: None, exchange: None, exchange_subnets: Vec::new() },
            hosts_file: None,
            egress: EgressPolicy::default(),
            reconcile_every: Duration::from_secs(60),
            metrics_vnics: false,
        }
    }
}

impl Driver {
    /// A driver on `store` and `kernel`.
    pub fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>, config: Config) -> Result<Self> {
        let fresh = MacAddr::hashed(VnicId::random().as_str().as_bytes()).octets();
        let fresh =
            format!("fd{:02x}:{:02x}{:02x}:{:02x}{:02x}::/64", fresh[1], fresh[2], fresh[3], fresh[4], fresh[5]);
        let uplink_pool6 = store.write(move |tx| tx.setting_or("uplink_pool6", &fresh))?;
        let pool = UplinkPool::new(config.uplink_pool, uplink_pool6.parse()?)?;
        // Nobody would withdraw what they announced.
        if config.hosts_file.is_none() && store.write(|tx| tx.forget_peers())? {
            log::info!("--exchange is off: deleted the addresses announced by other hosts");
        }
        let fabric =
            Fabric::new(store.clone(), kernel, pool, config.shares, config.tunnel.clone(), config.egress.clone())?;
        Ok(Self {
            store,
            fabric,
            ready: ready::Ready::default(),
            contests: contest::Contests::default(),
            failures: Mutex::default(),
            passes: Mutex::default(),
            peers: peers::Peers::default(),
            config,
        })
    }

    /// Sends an echo request to each concentrator: one that does not answer is replaced by the next of its list.
    pub fn probe_concentrators(&self) -> Result<()> {
        self.fabric.probe_concentrators()
    }

    /// Waits until background work that was begun is done, whether it failed or not.
    #[cfg(any(test, feature = "fake-kernel"))]
    pub fn wait_for_tasks(&self) {
        self.fabric.vnics.wait_for_tasks();
    }
}
