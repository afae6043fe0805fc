// SPDX-License-Identifier: Apache-2.0
//! How each fault is repaired.

use std::net::IpAddr;

use anyhow::{Result, bail};
use ciao_common::store::{Egress, Network};
use ciao_common::types::NetworkId;

use super::Fabric;
use super::fault::{Fault, Subject};

impl Fabric {
    /// Repairs a fault, unless its record was deleted or something else repaired it meanwhile. `true`: repaired here.
    pub(crate) fn repair(&self, fault: &Fault) -> Result<bool> {
        match &fault.subject {
            Subject::HostRules => self.host_rules.repair().map(|()| true),
            Subject::Namespace(name) | Subject::Setting(name, _) => self.repair_namespace(name),
            Subject::Rules(name) => self.repair_rules(name),
            Subject::SharedAddresses(name) => {
                let _lock = self.lock(Some(name));
                self.tenant_rules.share(name).map(|()| true)
            }
            Subject::TunnelRules => self.tunnels.rules.sync().map(|()| true),
            Subject::Hosts => self.sync_tunnels().map(|()| true),
            Subject::Tunnel(network) => self.repair_tunnel(network),
            Subject::Bridge(network) => self.repair_bridge(network),
            Subject::Gateway(network, address) => self.repair_gateway(network, *address),
            Subject::Forwarding(_, network) | Subject::Uplink(_, network) => self.repair_uplink(network),
            Subject::Port(vnic) => {
                let _lock = self.lock(vnic.namespace.as_deref());
                match self.store.read(|tx| tx.vnic(&vnic.id))? {
                    Some(vnic) => self.vnics.attach(&vnic).map(|()| true),
                    None => Ok(false),
                }
            }
            Subject::Pair(vnic) => {
                let _lock = self.lock(vnic.namespace.as_deref());
                self.store.read(|tx| tx.vnic(&vnic.id))?.map_or(Ok(false), |vnic| self.vnics.ensure(&vnic))
            }
            Subject::ContainerLink(vnic) => {
                let instance = vnic.instance.as_ref().map_or_else(String::new, |instance| format!(" {instance}"));
                bail!("a link cannot be added to a running container: restart container{instance}")
            }
        }
    }

    fn repair_namespace(&self, name: &str) -> Result<bool> {
        let _lock = self.lock(Some(name));
        if !self.store.read(|tx| tx.is_namespace_used(name))? {
            return Ok(false);
        }
        self.bridges.ensure_namespace(name).map(|()| true)
    }

    fn repair_rules(&self, name: &str) -> Result<bool> {
        let _lock = self.lock(Some(name));
        if !self.store.read(|tx| tx.is_namespace_used(name))? {
            return Ok(false);
        }
        self.tenant_rules.restore(name).map(|()| true)
    }

    fn repair_bridge(&self, network: &Network) -> Result<bool> {
        let _lock = self.lock(network.namespace.as_deref());
        let Some(network) = self.store.read(|tx| tx.network(&network.id))? else { return Ok(false) };
        self.networks.ensure(&network)?;
        if let Some(namespace) = &network.namespace {
            self.kernel.set_up(namespace, &network.bridge)?;
        }
        Ok(true)
    }

    /// Writes the other hosts, and all tunnels to them, as they are recorded now.
    pub(crate) fn sync_tunnels(&self) -> Result<()> {
        self.tunnels.rules.sync()?;
        self.tunnels.sync_hosts()?;
        let tunnels = self.store.read(|tx| tx.tunnels())?;
        tunnels.iter().try_for_each(|tunnel| self.sync_tunnel(&tunnel.network))
    }

    /// Writes a network's tunnel as it is recorded now, if it has one.
    pub(crate) fn sync_tunnel(&self, network: &NetworkId) -> Result<()> {
        let Some(network) = self.store.read(|tx| tx.network(network))? else { return Ok(()) };
        self.tunnels.rules.sync_network(&network)?;
        self.repair_tunnel(&network).map(drop)
    }

    fn repair_tunnel(&self, network: &Network) -> Result<bool> {
        let _lock = self.lock(network.namespace.as_deref());
        // With its bridge it may be repaired already.
        match self.store.read(|tx| tx.network(&network.id))? {
            Some(network) if self.tunnels.difference(&network)?.is_some() => {
                self.tunnels.ensure(&network).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    fn repair_gateway(&self, network: &Network, address: IpAddr) -> Result<bool> {
        let _lock = self.lock(network.namespace.as_deref());
        let network = self.store.read(|tx| tx.network(&network.id))?;
        let Some((network, namespace)) =
            network.as_ref().and_then(|found| found.namespace.as_ref().map(|name| (found, name)))
        else {
            return Ok(false);
        };
        for subnet in network.subnets.iter().filter(|subnet| subnet.gateway == Some(address)) {
            self.kernel.add_address(namespace, &network.bridge, subnet.subnet, address)?;
        }
        Ok(true)
    }

    fn repair_uplink(&self, network: &Network) -> Result<bool> {
        let Some(namespace) = &network.namespace else { return Ok(false) };
        let _lock = self.lock(Some(namespace));
        let networks = self.store.read(|tx| tx.networks_in_namespace(namespace))?;
        let mut routed = networks.iter().filter(|network| network.egress == Egress::Nat).peekable();
        let is_needed = routed.peek().is_some();
        routed.try_for_each(|network| self.uplinks.ensure(namespace, network))?;
        Ok(is_needed)
    }
}
