// SPDX-License-Identifier: Apache-2.0
//! A tenant's networks on other hosts, to which this host routes where it has another network of the tenant, or by
//! which the tenant's packets leave: each is recorded like Docker's. It has a bridge with its gateway and a tunnel, and
//! no VNIC.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use ciao_common::store::{Network, NetworkSubnet, Tunnel, Tx};
use ciao_common::types::{Subnet, TenantId};

use super::Fabric;
use super::remote_plan::{Here, Omitted, Plan, is_encrypted, plan};

impl Fabric {
    /// Makes the remote networks of a tenant, and removes those that are none any more. The caller has no lock.
    pub(crate) fn follow_networks(&self, tenant: &TenantId) -> Result<()> {
        self.follow_networks_as(&self.here()?, tenant)
    }

    /// Lists the host's addresses.
    pub(crate) fn here(&self) -> Result<Here> {
        let own = self.tunnels.cluster()?.own.map(|host| host.id);
        Ok(Here { own, pool: self.uplinks.pool, allowed: self.tunnels.announced_subnets().to_vec() })
    }

    /// The subnets of a tenant that this host would route to, if it could.
    pub(crate) fn omitted_networks(&self, here: &Here, tenant: &TenantId) -> Result<Vec<Omitted>> {
        Ok(self.store.read(|tx| plan(tx, tenant, here))?.1)
    }

    pub(crate) fn follow_networks_as(&self, here: &Here, tenant: &TenantId) -> Result<()> {
        if self.lost.is_any() {
            return Ok(());
        }
        let (planned, _) = self.store.read(|tx| plan(tx, tenant, here))?;
        // One at a time: the uplink goes with the last, and needs its record until then.
        for network in &planned.stale {
            let id = network.id.clone();
            self.store.write(move |tx| tx.delete_network(&id))?;
            self.forget_remote(network)?;
        }
        if planned.new.is_empty() {
            return Ok(());
        }
        let (owner, here) = (tenant.clone(), here.clone());
        let new = self.store.write(move |tx| {
            let (Plan { new, .. }, _) = plan(tx, &owner, &here)?;
            let encrypted = is_encrypted(tx, &owner)?;
            for (network, vni) in &new {
                tx.insert_network(network)?;
                let tunnel = Tunnel { network: network.id.clone(), vni: *vni, encrypted, flood: false };
                tx.insert_tunnel(&tunnel)?;
            }
            Ok(new)
        })?;
        for (network, _) in &new {
            log::info!("network {} of tenant {tenant} is on other hosts: added routes to it", network.id);
            self.restored(network.namespace.as_deref())?;
            let _lock = self.lock(network.namespace.as_deref());
            if self.store.read(|tx| tx.network(&network.id))?.as_ref() == Some(network) {
                self.networks.ensure(network)?;
            }
        }
        Ok(())
    }

    /// Removes a remote network whose record is deleted. The caller has no lock.
    pub(crate) fn forget_remote(&self, network: &Network) -> Result<()> {
        let _lock = self.lock(network.namespace.as_deref());
        let recorded = self.store.read(|tx| tx.network(&network.id))?;
        if recorded.as_ref() == Some(network) {
            return Ok(());
        }
        self.networks.tidy(network)?;
        // Another thread has recorded it again, and perhaps made it: its links have the same names.
        recorded.map_or(Ok(()), |recorded| self.networks.ensure(&recorded))
    }

    /// [`Self::follow_networks`] of all tenants.
    pub(crate) fn follow_all_networks(&self) -> Result<()> {
        let (networks, leaving) = self.store.read(|tx| Ok((tx.networks()?, tx.tenants_of_cnci()?)))?;
        let own = networks.into_iter().filter_map(|network| network.tenant);
        let tenants: BTreeSet<_> = own.chain(leaving).collect();
        let here = self.here()?;
        // One tenant's state is no other's.
        let follow = |tenant: &TenantId| {
            let followed = self.follow_networks_as(&here, tenant);
            followed.with_context(|| format!("update networks of tenant {tenant} on other hosts"))
        };
        tenants.iter().map(follow).fold(Ok(()), Result::and)
    }
}

/// Deletes the records of remote networks that exclude a new one of Docker's. Returns them.
pub(crate) fn supersede(tx: &Tx<'_>, new: &Network, subnets: &[Subnet], vni: Option<u32>) -> Result<Vec<Network>> {
    let of_tenant = new.tenant.as_ref().map_or(Ok(Vec::new()), |tenant| tx.networks_of_tenant(tenant))?;
    let overlaps = |own: &NetworkSubnet| subnets.iter().any(|subnet| subnet.overlaps(own.subnet));
    let mut superseded: Vec<_> = of_tenant.into_iter().filter(|other| other.subnets.iter().any(overlaps)).collect();
    superseded.extend(tx.networks_on_bridge(new.namespace.as_deref(), &new.bridge)?);
    if let Some(tunnel) = vni.map_or(Ok(None), |vni| tx.tunnel_of_vni(vni))? {
        superseded.extend(tx.network(&tunnel.network)?);
    }
    superseded.retain(|network| network.remote);
    superseded.sort_by(|one, other| one.id.cmp(&other.id));
    superseded.dedup();
    superseded.iter().try_for_each(|network| tx.delete_network(&network.id))?;
    Ok(superseded)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ciao_common::store::{ClusterHost, Store, TenantList, TenantSubnet};
    use ciao_common::types::{HostId, Mtu};

    use super::*;
    use crate::kernel::FirewallOpening;
    use crate::kernel::fake::Fake;
    use crate::{Config, Driver};

    #[test]
    fn a_network_that_another_thread_has_recorded_again_keeps_its_tunnel() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        let kernel = Arc::new(Fake::default());
        kernel.change(|state| state.addresses.push(("192.0.2.0/24".parse().unwrap(), [192, 0, 2, 1].into())));
        let driver = Driver::new(store.clone(), kernel.clone(), Config::default()).unwrap();
        let mtu = |bytes| Mtu::try_from(bytes).unwrap();
        let (id, red) = ("h1".parse::<HostId>().unwrap(), "red".parse::<TenantId>().unwrap());
        let host = ClusterHost { id: id.clone(), address: [192, 0, 2, 1].into(), mtu: mtu(1500), number: 0 };
        let subnet =
            TenantSubnet { subnet: "10.2.0.0/24".parse().unwrap(), vni: 102, gateway: [10, 2, 0, 1].into(), mtu: None };
        let list = TenantList { remotes: Vec::new(), networks: vec![subnet], cnci: vec![id] };
        let tenant = red.clone();
        let given = store.write(move |tx| {
            tx.give_hosts(1, &[host])?;
            tx.give_remotes(&tenant, 1, &list)
        });
        given.unwrap();
        // As the pass at the start does for a network that is recorded, and has no uplink yet.
        driver.fabric.host_rules.ensure(false).unwrap();
        driver.fabric.follow_networks(&red).unwrap();
        assert_eq!(kernel.state().openings, [FirewallOpening::Uplinks].into());
        let (whole, recorded) = (kernel.state(), store.read(|tx| tx.networks_of_tenant(&red)).unwrap());
        assert_eq!((recorded.len(), whole.namespaces.len()), (1, 1));
        // As this thread deleted it, before the other one recorded and made it with another MTU.
        let former = Network { mtu: Some(mtu(1400)), ..recorded[0].clone() };
        driver.fabric.forget_remote(&former).unwrap();
        assert_eq!(kernel.state(), whole);
    }
}
