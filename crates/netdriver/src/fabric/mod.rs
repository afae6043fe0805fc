// SPDX-License-Identifier: Apache-2.0
//! What must exist in the kernel for a record, and what is removed with the last record.
//!
//! Records come before links when something is made, and get the state `deleting` before links are deleted; so a crash
//! leaves records without links, or links that a record still names, and `reconcile` repairs both.

mod bridges;
mod cluster;
mod concentrators;
pub(crate) mod fault;
mod former_macs;
mod generation;
mod host_firewall;
mod host_guard;
mod host_rules;
mod host_ruleset;
mod host_settings;
pub(crate) mod inspect;
mod locks;
mod lost;
mod networks;
pub(crate) mod pending;
mod ports;
pub(crate) mod remote_networks;
pub(crate) mod remote_plan;
pub(crate) mod remotes;
mod repair;
mod tasks;
mod tenant_rules;
mod tunnel_rules;
mod tunnels;
mod uplinks;
mod veth;
mod vnics;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use ciao_common::store::Store;
use ciao_common::types::HostId;

use crate::kernel::Kernel;
use crate::rules::{self, EgressPolicy};
use crate::uplink_pool::UplinkPool;
use bridges::Bridges;
pub use cluster::TunnelConfig;
pub(crate) use cluster::{Cluster, HOST_MTU, IPV6_MTU, check_hosts, tunnel_mtu};
use host_firewall::HostFirewall;
use host_rules::HostRules;
use host_ruleset::HostRuleset;
use host_settings::HostSettings;
use locks::Locks;
use lost::Lost;
use networks::Networks;
use pending::Pending;
use ports::PublishedPorts;
use tenant_rules::TenantRules;
use tunnels::Tunnels;
use uplinks::Uplinks;
use vnics::Vnics;

pub(crate) use veth::veth;

/// What each tenant may have of what all tenants and the host share. 0: no limit.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Tracked flows to other hosts, at a time.
    pub flows: u32,
    /// Source ports of the host, for each destination and protocol.
    pub nat_ports: u32,
    /// Published ports of all tenants together: each is an open file, for each family.
    pub published_ports: usize,
}

impl Default for Shares {
    fn default() -> Self {
        Self { flows: 16384, nat_ports: rules::MOST_NAT_PORTS, published_ports: usize::MAX }
    }
}

/// Namespaces, bridges, links and rules of all records.
pub(crate) struct Fabric {
    store: Arc<Store>,
    pub(crate) kernel: Arc<dyn Kernel>,
    pub(crate) networks: Networks,
    pub(crate) bridges: Arc<Bridges>,
    pub(crate) vnics: Arc<Vnics>,
    pub(crate) uplinks: Arc<Uplinks>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) ports: PublishedPorts,
    pub(crate) tenant_rules: Arc<TenantRules>,
    pub(crate) host_rules: Arc<HostRules>,
    pub(crate) lost: Arc<Lost>,
    pub(crate) pending: Pending,
    /// How often in a row each concentrator did otherwise than is recorded of it.
    probes: Mutex<BTreeMap<HostId, u32>>,
    locks: Arc<Locks>,
}

impl Fabric {
    pub(crate) fn new(
        store: Arc<Store>,
        kernel: Arc<dyn Kernel>,
        pool: UplinkPool,
        shares: Shares,
        tunnel: TunnelConfig,
        egress: EgressPolicy,
    ) -> Result<Self> {
        let lost = Arc::new(Lost::new(store.clone(), kernel.clone()));
        let deny = egress.deny.clone();
        let tenant_rules = Arc::new(TenantRules::new(store.clone(), kernel.clone(), lost.clone(), shares.flows, deny));
        let settings = Arc::new(HostSettings::new(store.clone(), kernel.clone()));
        let firewall = Arc::new(HostFirewall::new(store.clone(), kernel.clone(), settings, lost.clone()));
        let nat_ports = shares.nat_ports;
        let recorded = HostRuleset { store: store.clone(), kernel: kernel.clone(), pool, policy: egress, nat_ports };
        let host_rules = Arc::new(HostRules::new(recorded, firewall.clone(), lost.clone()));
        let bridges = Arc::new(Bridges {
            store: store.clone(),
            kernel: kernel.clone(),
            tenant_rules: tenant_rules.clone(),
            firewall,
            lost: lost.clone(),
        });
        let tunnels = Arc::new(Tunnels::new(store.clone(), kernel.clone(), lost.clone(), tunnel));
        let locks = Arc::new(Locks::default());
        let vnics = Vnics::new(store.clone(), kernel.clone(), bridges.clone(), tunnels.clone(), locks.clone())?;
        let uplinks =
            Arc::new(Uplinks { store: store.clone(), kernel: kernel.clone(), host_rules: host_rules.clone(), pool });
        let networks = Networks { bridges: bridges.clone(), uplinks: uplinks.clone(), tunnels: tunnels.clone() };
        let ports = PublishedPorts {
            store: store.clone(),
            kernel: kernel.clone(),
            tenant_rules: tenant_rules.clone(),
            host_rules: host_rules.clone(),
            pool,
            most: shares.published_ports,
            endpoints: Locks::default(),
            held: Mutex::default(),
        };
        let pending = Pending::new(store.read(|tx| tx.recorded_namespaces())?);
        Ok(Self {
            store,
            kernel,
            networks,
            bridges,
            vnics,
            uplinks,
            tunnels,
            ports,
            tenant_rules,
            host_rules,
            lost,
            pending,
            probes: Mutex::default(),
            locks,
        })
    }

    /// Until the guard is dropped, nobody else changes links of the namespace; other namespaces are not affected.
    pub(crate) fn lock(&self, namespace: Option<&str>) -> MutexGuard<'_, ()> {
        self.locks.lock_namespace(namespace)
    }
}
