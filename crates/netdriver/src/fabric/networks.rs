// SPDX-License-Identifier: Apache-2.0
//! A network's links and rules: made with its record, removed with it.

use std::sync::Arc;

use anyhow::{Context, Result};
use ciao_common::store::{Egress, Network};

use super::bridges::Bridges;
use super::tunnels::Tunnels;
use super::uplinks::Uplinks;
use crate::kernel::element::Change;
use crate::rules::{self, Restrictions};

/// What all networks need.
pub(crate) struct Networks {
    pub(super) bridges: Arc<Bridges>,
    pub(super) uplinks: Arc<Uplinks>,
    pub(super) tunnels: Arc<Tunnels>,
}

impl Networks {
    /// Makes all that a network needs, if it does not exist. The caller has the namespace's lock.
    pub(crate) fn ensure(&self, network: &Network) -> Result<()> {
        self.bridges.firewall.settings.ensure_neighbours();
        self.ensure_links(network)?;
        self.add_rules(network)
    }

    /// The links of [`Self::ensure`]: namespace, bridge, gateways, and the uplink.
    fn ensure_links(&self, network: &Network) -> Result<()> {
        self.bridges.ensure(network.namespace.as_deref(), &network.bridge, network.mtu)?;
        if let Some(namespace) = &network.namespace {
            self.bridges.describe(namespace, &network.bridge)?;
        }
        self.tunnels.ensure(network).context("create the network's tunnel to other hosts")?;
        let Some(namespace) = network.namespace.as_deref().filter(|_| network.egress == Egress::Nat) else {
            return Ok(());
        };
        self.bridges.add_gateways(namespace, network)?;
        self.uplinks.ensure(namespace, &[network])
    }

    /// Adds the rules by which a network's traffic passes as its options define.
    fn add_rules(&self, network: &Network) -> Result<()> {
        let Some(namespace) = network.namespace.as_deref() else { return Ok(()) };
        let restrictions =
            Restrictions::on_bridge(&self.bridges.networks(namespace, &network.bridge)?, &network.bridge);
        if restrictions.secured && !restrictions.isolated && network.egress_allow.is_empty() {
            let elements = rules::network_elements(network, restrictions);
            self.bridges.tenant_rules.change(namespace, &elements, Change::Add).context("add a network's rules")?;
        } else {
            // The restrictions of VNICs on its bridge, and of the tenant's other networks, change too.
            self.bridges.tenant_rules.load(namespace)?;
            self.bridges.attach_vnics(namespace, &network.bridge)?;
        }
        if network.has_exceptions() {
            return self.uplinks.host_rules.reload().context("add a network's exceptions to the host's rules");
        }
        let outside = self.uplinks.host_elements(namespace, network)?;
        if outside.is_empty() {
            return Ok(());
        }
        self.uplinks.host_rules.change(&outside, Change::Add).context("add a network's subnets to the host's rules")
    }

    /// Removes what only a deleted network needed: its rules, an uplink, a bridge of ours and a namespace that nothing
    /// uses, and its gateways from a bridge that stays. Where records are missing, what they need is not known: a later
    /// reconcile removes the rest. The caller has the namespace's lock.
    pub(crate) fn tidy(&self, deleted: &Network) -> Result<()> {
        let Some(namespace) = deleted.namespace.as_deref() else {
            return self.bridges.firewall.sync(None);
        };
        self.tidy_in(namespace, deleted).inspect_err(|_| {
            // The record is deleted, and what is left of it is nobody's change.
            self.bridges.tenant_rules.forget_generation(namespace);
            self.uplinks.host_rules.forget_generation();
        })
    }

    fn tidy_in(&self, namespace: &str, deleted: &Network) -> Result<()> {
        if self.bridges.lost.has(namespace)? {
            return Ok(());
        }
        self.tunnels.remove(namespace, deleted)?;
        // The host's exceptions to --egress-deny go before the namespace's, which close them to other networks.
        self.uplinks.unroute(namespace, deleted)?;
        self.remove_rules(namespace, deleted)?;
        self.uplinks.tidy(namespace)?;
        if self.bridges.tidy(namespace, &deleted.bridge)? {
            return Ok(());
        }
        self.bridges.remove_gateways(namespace, deleted)
    }

    fn remove_rules(&self, namespace: &str, deleted: &Network) -> Result<()> {
        if !self.bridges.kernel.has_namespace(namespace)? {
            return Ok(());
        }
        let is_last = self.bridges.networks(namespace, &deleted.bridge)?.is_empty();
        let restrictions = Restrictions::on_bridge(std::slice::from_ref(deleted), &deleted.bridge);
        if is_last && restrictions.secured && !restrictions.isolated && deleted.egress_allow.is_empty() {
            self.bridges.tenant_rules.change(namespace, &rules::network_elements(deleted, restrictions), Change::Delete)
        } else {
            self.bridges.tenant_rules.load(namespace)?;
            self.bridges.attach_vnics(namespace, &deleted.bridge)
        }
    }
}
