// SPDX-License-Identifier: Apache-2.0
//! What must exist in the kernel for a record, and what is removed with the last record.
//!
//! Records come before links when something is made, and get the state `deleting` before links are deleted; so a crash
//! leaves records without links, or links that a record still names, and `reconcile` repairs both.

mod bridges;
mod host_firewall;
mod host_rules;
mod host_settings;
mod locks;
mod ports;
pub(crate) mod standing;
mod tenant_rules;
mod uplinks;
mod veth;
mod vnics;

use std::sync::{Arc, MutexGuard};

use anyhow::{Context, Result};
use ciao_common::store::{Egress, Network, Store};

use crate::kernel::Kernel;
use crate::kernel::element::Change;
use crate::rules;
use crate::uplink_pool::UplinkPool;
use bridges::Bridges;
use host_firewall::HostFirewall;
use host_rules::HostRules;
use host_settings::HostSettings;
use locks::Locks;
use ports::PublishedPorts;
use tenant_rules::TenantRules;
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
    pub(crate) bridges: Arc<Bridges>,
    pub(crate) vnics: Arc<Vnics>,
    pub(crate) uplinks: Uplinks,
    pub(crate) ports: PublishedPorts,
    pub(crate) tenant_rules: Arc<TenantRules>,
    pub(crate) host_rules: Arc<HostRules>,
    firewall: Arc<HostFirewall>,
    locks: Arc<Locks>,
}

impl Fabric {
    pub(crate) fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>, pool: UplinkPool, shares: Shares) -> Result<Self> {
        let tenant_rules = Arc::new(TenantRules::new(store.clone(), kernel.clone(), shares.flows));
        let settings = Arc::new(HostSettings::new(store.clone(), kernel.clone()));
        let firewall = Arc::new(HostFirewall::new(store.clone(), kernel.clone(), settings.clone()));
        let host_rules =
            HostRules::new(store.clone(), kernel.clone(), settings, firewall.clone(), pool, shares.nat_ports);
        let host_rules = Arc::new(host_rules);
        let bridges = Arc::new(Bridges::new(store.clone(), kernel.clone(), tenant_rules.clone(), firewall.clone()));
        let locks = Arc::new(Locks::default());
        let vnics = Vnics::new(
            store.clone(),
            kernel.clone(),
            bridges.clone(),
            tenant_rules.clone(),
            firewall.clone(),
            locks.clone(),
        )?;
        let uplinks = Uplinks::new(store.clone(), kernel.clone(), host_rules.clone(), pool);
        let ports = PublishedPorts::new(
            store.clone(),
            kernel.clone(),
            tenant_rules.clone(),
            host_rules.clone(),
            pool,
            shares.published_ports,
        );
        Ok(Self { store, kernel, bridges, vnics, uplinks, ports, tenant_rules, host_rules, firewall, locks })
    }

    /// Until the guard is dropped, nobody else changes links of the namespace; other namespaces are not affected.
    pub(crate) fn lock(&self, namespace: Option<&str>) -> MutexGuard<'_, ()> {
        self.locks.lock(namespace.unwrap_or_default())
    }

    /// Makes all that a network needs, if it does not exist. The caller has the namespace's lock.
    pub(crate) fn ensure_network(&self, network: &Network) -> Result<()> {
        self.ensure_network_links(network)?;
        self.open_network(network)
    }

    /// The links of [`Self::ensure_network`]: namespace, bridge, gateways, and the uplink.
    pub(crate) fn ensure_network_links(&self, network: &Network) -> Result<()> {
        self.bridges.ensure(network.namespace.as_deref(), &network.bridge, network.mtu)?;
        let Some(namespace) = network.namespace.as_deref().filter(|_| network.egress == Egress::Nat) else {
            return Ok(());
        };
        self.bridges.add_gateways(namespace, network)?;
        self.uplinks.ensure(namespace, network)
    }

    /// Adds the rules by which a network's traffic passes as its options define.
    fn open_network(&self, network: &Network) -> Result<()> {
        let Some(namespace) = network.namespace.as_deref() else { return Ok(()) };
        if network.secured && network.icc {
            let elements = rules::network_elements(network);
            self.tenant_rules.change(namespace, &elements, Change::Add).context("add a network's rules")?;
        } else {
            // The restrictions of VNICs on its bridge change too.
            self.tenant_rules.load(namespace)?;
            self.bridges.attach_vnics(namespace, &network.bridge)?;
        }
        let outside = self.uplinks.host_elements(namespace, network)?;
        if outside.is_empty() {
            return Ok(());
        }
        self.host_rules.change(&outside, Change::Add).context("add a network's subnets to the host's rules")
    }

    /// Removes what only a deleted network needed: its rules, an uplink, a bridge of ours and a namespace that nothing
    /// uses, and its gateways from a bridge that stays. The caller has the namespace's lock.
    pub(crate) fn tidy(&self, deleted: &Network) -> Result<()> {
        let Some(namespace) = deleted.namespace.as_deref() else {
            return self.firewall.sync(None);
        };
        self.close_network(namespace, deleted)?;
        self.uplinks.unroute(namespace, deleted)?;
        self.uplinks.tidy(namespace)?;
        if self.bridges.tidy(namespace, &deleted.bridge)? {
            return Ok(());
        }
        self.bridges.remove_gateways(namespace, deleted)
    }

    fn close_network(&self, namespace: &str, deleted: &Network) -> Result<()> {
        if !self.kernel.has_namespace(namespace)? {
            return Ok(());
        }
        let networks = self.bridges.networks(namespace, &deleted.bridge)?;
        if networks.is_empty() && deleted.secured && deleted.icc {
            self.tenant_rules.change(namespace, &rules::network_elements(deleted), Change::Delete)
        } else {
            self.tenant_rules.load(namespace)?;
            self.bridges.attach_vnics(namespace, &deleted.bridge)
        }
    }
}
