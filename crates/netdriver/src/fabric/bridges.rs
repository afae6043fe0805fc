// SPDX-License-Identifier: Apache-2.0
//! Bridges and the namespaces they are in: made for the first record, removed with the last.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, bail};
use ciao_common::store::{Egress, Network, Store};
use ciao_common::types::{LinkName, Mtu, Subnet};

use super::host_firewall::HostFirewall;
use super::lost::Lost;
use super::tenant_rules::TenantRules;
use super::veth::restricted;
use crate::alias;
use crate::kernel::{HostLink, Kernel, Namespace};
use crate::rollback::rolled_back;
use crate::rules::Restrictions;

/// All bridges that networks and VNICs are on.
pub(crate) struct Bridges {
    pub(super) store: Arc<Store>,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) tenant_rules: Arc<TenantRules>,
    pub(super) firewall: Arc<HostFirewall>,
    pub(super) lost: Arc<Lost>,
}

impl Bridges {
    /// Whether a bridge can be used that is to be one of the host, or one of ours. A bridge of the host that happens to
    /// have the name of ours is another one.
    pub(crate) fn check(&self, bridge: &LinkName, on_host: bool) -> Result<()> {
        match (self.kernel.host_link(bridge)?, on_host) {
            (HostLink::Bridge, false) => {
                log::info!(
                    "bridge {bridge} of the host is not used for bridge={bridge}: to use it, give host_bridge={bridge}"
                );
                Ok(())
            }
            (HostLink::Absent | HostLink::Other, false) | (HostLink::Bridge, true) => Ok(()),
            (HostLink::Absent, true) => {
                bail!(
                    "this host has no bridge {bridge}: create it first, or give bridge={bridge} for a bridge of ciao-net"
                )
            }
            (HostLink::Other, true) => {
                bail!("{bridge} is a link of this host but not a bridge: give another host_bridge")
            }
        }
    }

    /// Makes namespace and bridge, if they do not exist. The caller has the namespace's lock.
    pub(crate) fn ensure(&self, namespace: Option<&str>, bridge: &LinkName, mtu: Option<Mtu>) -> Result<()> {
        let Some(name) = namespace else {
            return match self.kernel.host_link(bridge)? {
                HostLink::Bridge => self.firewall.sync(Some(bridge)),
                _ => bail!(
                    "bridge {bridge} of this host no longer exists, and ciao-net did not create it: create it again"
                ),
            };
        };
        self.ensure_namespace(name)?;
        if self.kernel.ensure_bridge(name, bridge, mtu)? {
            // It may have been deleted under its ports.
            self.attach_vnics(name, bridge)?;
        }
        Ok(())
    }

    /// Makes a namespace with its rules, if it does not exist. One whose rules cannot be loaded is deleted again. The
    /// caller has its lock.
    pub(super) fn ensure_namespace(&self, name: &str) -> Result<()> {
        if !self.kernel.ensure_namespace(name)? {
            return Ok(());
        }
        self.tenant_rules.load(name).map_err(|error| rolled_back(error, self.delete_namespace(name)))
    }

    /// Deletes a namespace with all that is in it. The caller has its lock.
    pub(crate) fn delete_namespace(&self, name: &str) -> Result<()> {
        self.tenant_rules.forget(name);
        self.kernel.delete_namespace(name)
    }

    /// Makes the VNICs of a bridge its ports again, with the settings and static entries of each.
    pub(crate) fn attach_vnics(&self, namespace: &str, bridge: &LinkName) -> Result<()> {
        let networks = self.networks(namespace, bridge)?;
        let vnics = self.store.read(|tx| tx.vnics_on_bridge(Some(namespace), bridge))?;
        vnics.iter().try_for_each(|vnic| {
            self.kernel.attach(&restricted(vnic, Restrictions::on_bridge(&networks, &vnic.bridge)))
        })
    }

    /// The networks on a bridge of ours.
    pub(super) fn networks(&self, namespace: &str, bridge: &LinkName) -> Result<Vec<Network>> {
        self.store.read(|tx| tx.networks_on_bridge(Some(namespace), bridge))
    }

    /// Writes on a bridge of ours which networks are on it; later, while records are missing: what it says may be all
    /// that is known of them. The caller has the namespace's lock.
    pub(super) fn describe(&self, namespace: &str, bridge: &LinkName) -> Result<()> {
        if !self.kernel.is_own_bridge(namespace, bridge)? || self.lost.has(namespace)? {
            return Ok(());
        }
        let alias = alias::of_bridge(&self.networks(namespace, bridge)?);
        self.kernel.set_alias(&Namespace::Named(namespace.to_owned()), bridge, &alias)
    }

    /// Adds a network's gateways to its bridge.
    pub(super) fn add_gateways(&self, namespace: &str, network: &Network) -> Result<()> {
        for subnet in &network.subnets {
            if let Some(gateway) = subnet.gateway {
                self.kernel.add_address(namespace, &network.bridge, subnet.subnet, gateway)?;
            }
        }
        Ok(())
    }

    /// Removes the gateways of a deleted network from its bridge, unless another network there has them.
    pub(super) fn remove_gateways(&self, namespace: &str, deleted: &Network) -> Result<()> {
        let left = self.networks(namespace, &deleted.bridge)?;
        let is_gateway = |address| {
            let mut nat = left.iter().filter(|network| network.egress == Egress::Nat);
            nat.any(|network| network.subnets.iter().any(|subnet| subnet.gateway == Some(address)))
        };
        for subnet in &deleted.subnets {
            if let Some(gateway) = subnet.gateway.filter(|gateway| !is_gateway(*gateway)) {
                self.kernel.remove_address(namespace, &deleted.bridge, subnet.subnet, gateway)?;
            }
        }
        Ok(())
    }

    /// Whether an address on a bridge of ours is a network's gateway, or somebody else's on a network whose gateway is
    /// not ours.
    pub(crate) fn may_have(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<bool> {
        let networks = self.networks(namespace, bridge)?;
        Ok(networks.iter().any(|network| {
            let ours = network.egress == Egress::Nat;
            network.subnets.iter().any(|own| if ours { own.gateway == Some(address) } else { own.subnet == subnet })
        }))
    }

    /// Removes a bridge of ours that nothing uses, and its namespace with the last one. `true`: removed. Nothing goes
    /// while records are missing. The caller has the namespace's lock.
    pub(crate) fn tidy(&self, namespace: &str, bridge: &LinkName) -> Result<bool> {
        if self.lost.has(namespace)? {
            return Ok(false);
        }
        let (in_use, namespace_in_use) =
            self.store.read(|tx| Ok((tx.is_bridge_used(namespace, bridge)?, tx.is_namespace_used(namespace)?)))?;
        if !namespace_in_use {
            self.delete_namespace(namespace)?;
        } else if !in_use {
            self.kernel.delete_link(&Namespace::Named(namespace.to_owned()), bridge)?;
        } else {
            self.describe(namespace, bridge)?;
        }
        Ok(!in_use)
    }
}
