// SPDX-License-Identifier: Apache-2.0
//! How each fault is repaired.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use ciao_common::store::{Egress, Network};
use ciao_common::types::{NetworkId, TenantId};

use super::Fabric;
use super::fault::{Fault, Subject};
use super::pending::Part;
use crate::kernel::Namespace;
use crate::kernel::state::Seen;

impl Fabric {
    /// Restores what a namespace's records need, if that was not done since the start, and before it what all tenants
    /// share. Waits while another thread does it. The caller has no lock.
    ///
    /// # Errors
    /// The namespace or its rules cannot be restored: nothing may be set up in it.
    pub(crate) fn restored(&self, namespace: Option<&str>) -> Result<()> {
        if self.pending.count() == 0 {
            return Ok(());
        }
        self.restore_shared();
        if let Some(work) = self.pending.begin(Part::Space(namespace.map(str::to_owned))) {
            self.restore_space(namespace)?;
            work.done();
        }
        Ok(())
    }

    /// Writes the other hosts, and all tunnels to them: their list has changed. What fails of one tenant's keeps
    /// nothing of others'. The caller has no lock.
    pub(crate) fn follow_hosts(&self) -> Result<()> {
        let mut restored = Ok(());
        for tunnel in self.store.read(|tx| tx.tunnels())? {
            if self.pending.count() == 0 {
                break;
            }
            let network = self.store.read(|tx| tx.network(&tunnel.network))?;
            restored = restored.and(network.map_or(Ok(()), |network| self.restored(network.namespace.as_deref())));
        }
        restored.and(self.sync_tunnels()).and(self.follow_all_networks())
    }

    /// Writes the tunnels of a tenant's networks: its remotes have changed. One that fails keeps it from none of the
    /// others. The caller has no lock.
    pub(crate) fn follow_tenant(&self, tenant: &TenantId) -> Result<()> {
        let networks = self.store.read(|tx| tx.networks_of_tenant(tenant))?;
        let failed = networks.iter().filter_map(|network| self.follow_remotes(network).err());
        failed.last().map_or(Ok(()), Err)
    }

    fn follow_remotes(&self, network: &Network) -> Result<()> {
        self.restored(network.namespace.as_deref())?;
        self.sync_tunnel(&network.id)
    }

    /// The part of [`Self::restored`] that all tenants share. Whoever needs what fails meets its error again.
    pub(crate) fn restore_shared(&self) {
        if let Some(work) = self.pending.begin(Part::Host) {
            if let Err(error) = self.lost.look().and_then(|()| self.restore_host()) {
                log::warn!("reconcile: rules of the host: {error:#}");
            }
            work.done();
        }
    }

    fn restore_host(&self) -> Result<()> {
        let host = self.look_at_host()?;
        self.restore(&self.host_faults(&host, true)?)
    }

    fn restore_space(&self, namespace: Option<&str>) -> Result<()> {
        let faults = self.faults(&self.space(namespace)?, &self.look_at_host()?, true)?;
        self.restore(&faults)
    }

    /// Repairs faults in their order, up to one that blocks the others.
    fn restore(&self, faults: &[Fault]) -> Result<()> {
        for fault in faults.iter().filter(|fault| !matches!(fault.subject, Subject::ContainerLink(_))) {
            let Fault { action, subject, why } = fault;
            match self.repair(fault) {
                Ok(false) => {}
                Ok(true) => log::info!("reconcile: {action} {subject}: {why}"),
                Err(error) if fault.blocks_others() => return Err(error.context(format!("{action} {subject}"))),
                Err(error) => log::warn!("reconcile: {action} {subject}: {why}: {error:#}"),
            }
        }
        Ok(())
    }

    /// The state of the host's namespace.
    pub(crate) fn look_at_host(&self) -> Result<Seen> {
        self.kernel.look(&Namespace::Host)?.context("the host's network namespace does not exist")
    }

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
            Subject::Forwarding(_, network) => self.host_rules.ensure(network.has_v6()).map(|()| true),
            Subject::Uplink(_, network) => self.repair_uplink(network),
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
    fn sync_tunnels(&self) -> Result<()> {
        self.tunnels.forget_absence();
        self.tunnels.rules.sync()?;
        self.tunnels.sync_hosts()?;
        let tunnels = self.store.read(|tx| tx.tunnels())?;
        tunnels.iter().map(|tunnel| self.sync_tunnel(&tunnel.network)).fold(Ok(()), Result::and)
    }

    /// Writes a network's tunnel as it is recorded now, if it has one.
    fn sync_tunnel(&self, network: &NetworkId) -> Result<()> {
        let Some(namespace) = self.store.read(|tx| tx.network(network))?.and_then(|network| network.namespace) else {
            return Ok(());
        };
        let _lock = self.lock(Some(&namespace));
        match self.store.read(|tx| tx.network(network))? {
            Some(network) if self.kernel.has_namespace(&namespace)? => self.tunnels.follow_others(&network),
            _ => Ok(()),
        }
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
        let routed: Vec<_> = networks.iter().filter(|network| network.egress == Egress::Nat).collect();
        if routed.is_empty() { Ok(false) } else { self.uplinks.ensure(namespace, &routed).map(|()| true) }
    }
}
