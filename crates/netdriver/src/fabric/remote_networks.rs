// SPDX-License-Identifier: Apache-2.0
//! A tenant's networks on other hosts, to which this host routes where it has another network of the tenant, or by
//! which the tenant's packets leave: each is recorded like Docker's. It has a bridge with its gateway and a tunnel, and
//! no VNIC.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ciao_common::store::{Egress, Egress6, Network, NetworkSubnet, TenantSubnet, Tunnel, Tx, VnicPolicy};
use ciao_common::types::{HostId, LinkName, Mtu, NetworkId, Subnet, TenantId};

use super::Fabric;
use super::cluster::tunnel_mtu;
use crate::names;
use crate::uplink_pool::UplinkPool;

/// Of those that hosts announce: one that was broken into makes no more bridges here.
const MOST_ANNOUNCED: usize = 32;

/// What is to be recorded otherwise: networks, the new ones with their VNIs.
#[derive(Default)]
struct Plan {
    stale: Vec<Network>,
    new: Vec<(Network, u32)>,
}

impl Fabric {
    /// Makes the remote networks of a tenant, and removes those that are none any more. The caller has no lock.
    pub(crate) fn follow_networks(&self, tenant: &TenantId) -> Result<()> {
        self.follow_networks_as(self.own_host()?, tenant)
    }

    /// This host in the list of hosts.
    fn own_host(&self) -> Result<Option<HostId>> {
        Ok(self.tunnels.cluster()?.own.map(|host| host.id))
    }

    fn follow_networks_as(&self, own: Option<HostId>, tenant: &TenantId) -> Result<()> {
        if self.lost.is_any() {
            return Ok(());
        }
        let pool = self.uplinks.pool;
        let planned = self.store.read(|tx| plan(tx, tenant, own.as_ref(), &pool))?;
        // One at a time: the uplink goes with the last, and needs its record until then.
        for network in &planned.stale {
            let id = network.id.clone();
            self.store.write(move |tx| tx.delete_network(&id))?;
            self.forget_remote(network)?;
        }
        if planned.new.is_empty() {
            return Ok(());
        }
        let owner = tenant.clone();
        let new = self.store.write(move |tx| {
            let Plan { new, .. } = plan(tx, &owner, own.as_ref(), &pool)?;
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
        // Reading it lists the host's addresses.
        let host = self.own_host()?;
        // One tenant's state is no other's.
        let follow = |tenant: &TenantId| {
            let followed = self.follow_networks_as(host.clone(), tenant);
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

/// Whether a network of a tenant's on this host is to leave it encrypted: then the others of its are, too.
fn is_encrypted(tx: &Tx<'_>, tenant: &TenantId) -> Result<bool> {
    for network in tx.networks_of_tenant(tenant)?.iter().filter(|network| !network.remote) {
        if tx.tunnel(&network.id)?.is_some_and(|tunnel| tunnel.encrypted) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn plan(tx: &Tx<'_>, tenant: &TenantId, host: Option<&HostId>, pool: &UplinkPool) -> Result<Plan> {
    let (remote, own): (Vec<_>, Vec<_>) =
        tx.networks_of_tenant(tenant)?.into_iter().partition(|network| network.remote);
    let is_cnci = tx.cnci(tenant)?.iter().any(|cnci| Some(cnci) == host);
    let is_here = is_cnci || own.iter().any(|network| network.namespace.is_some());
    let mut wanted = if is_here { wanted(tx, tenant, &own, pool)? } else { Vec::new() };
    let stale: Vec<_> = remote.iter().filter(|old| wanted.iter().all(|(new, _)| new != *old)).cloned().collect();
    wanted.retain(|(new, _)| !remote.contains(new));
    Ok(Plan { stale, new: wanted })
}

/// The remote networks that a tenant is to have, with their VNIs.
fn wanted(tx: &Tx<'_>, tenant: &TenantId, own: &[Network], pool: &UplinkPool) -> Result<Vec<(Network, u32)>> {
    let mut given = tx.tenant_subnets(tenant)?;
    let vnics = tx.launcher_subnets(tenant)?;
    let mut by_vni = BTreeMap::<u32, Vec<TenantSubnet>>::new();
    let mut taken: Vec<Subnet> = own.iter().flat_map(|network| &network.subnets).map(|subnet| subnet.subnet).collect();
    let (mut announced, mut known) = (tx.announced_subnets(tenant)?, BTreeSet::new());
    announced.retain(|one| is_private(one.subnet) && !taken.contains(&one.subnet) && known.insert(one.subnet));
    given.extend(announced.into_iter().take(MOST_ANNOUNCED));
    for one in given {
        let differs = |(other, _): &(Subnet, Option<IpAddr>)| *other != one.subnet && other.overlaps(one.subnet);
        let is_free = !taken.iter().any(|other| other.overlaps(one.subnet)) && !vnics.iter().any(differs);
        if is_free && pool.check_disjoint(one.subnet).is_ok() && one.subnet.check_for_hosts(Some(one.gateway)).is_ok() {
            taken.push(one.subnet);
            by_vni.entry(one.vni).or_default().push(one);
        }
    }
    let mut networks = Vec::new();
    for (vni, mut subnets) in by_vni {
        let id: NetworkId = format!("vni{vni}").parse()?;
        // A VNI is one network's.
        if tx.tunnel_of_vni(vni)?.is_some_and(|tunnel| tunnel.network != id)
            || tx.network(&id)?.is_some_and(|other| other.tenant.as_ref() != Some(tenant))
        {
            continue;
        }
        subnets.sort_by_key(|one| (one.subnet.network().is_ipv6(), one.subnet.to_string()));
        if let Some(bridge) = bridge_of(tx, tenant, &id, &subnets)? {
            networks.push((network(tx, (tenant, id), bridge, &subnets)?, vni));
        }
    }
    Ok(networks)
}

/// That of VNICs in these subnets, or one of its own; `None`: another network is on it, or it is one of the host.
fn bridge_of(tx: &Tx<'_>, tenant: &TenantId, id: &NetworkId, subnets: &[TenantSubnet]) -> Result<Option<LinkName>> {
    let namespace = names::tenant_namespace(tenant);
    let mut bridge = names::network_bridge(id)?;
    for one in subnets {
        if let Some(vnic) = tx.vnic_in_subnet(tenant, one.subnet)? {
            if vnic.namespace.as_ref() != Some(&namespace) {
                return Ok(None);
            }
            bridge = vnic.bridge;
        }
    }
    let others = tx.networks_on_bridge(Some(&namespace), &bridge)?;
    Ok(others.iter().all(|other| other.id == *id).then_some(bridge))
}

fn network(
    tx: &Tx<'_>,
    (tenant, id): (&TenantId, NetworkId),
    bridge: LinkName,
    of: &[TenantSubnet],
) -> Result<Network> {
    let subnet = |one: &TenantSubnet| NetworkSubnet {
        subnet: one.subnet,
        gateway: Some(one.gateway),
        aux: Vec::new(),
        set_id: None,
        pool: None,
    };
    let most = tunnel_mtu(&tx.cluster_hosts()?).1;
    let given = of.iter().filter_map(|one| one.mtu).min_by_key(|mtu| mtu.bytes());
    Ok(Network {
        id,
        tenant: Some(tenant.clone()),
        namespace: Some(names::tenant_namespace(tenant)),
        bridge,
        mtu: Some(given.map_or_else(|| Mtu::try_from(most), Ok)?),
        egress: Egress::Nat,
        vnics: VnicPolicy::Auto,
        dst_prefix: "eth".to_owned(),
        egress6: Egress6::Nat,
        secured: true,
        icc: true,
        egress_allow: Vec::new(),
        host_access: Vec::new(),
        options: "{}".to_owned(),
        subnets: of.iter().map(subnet).collect(),
        routes: Vec::new(),
        remote: true,
    })
}

/// What the Internet does not route (RFC 1918, RFC 4193).
const PRIVATE: [(IpAddr, u8); 4] = [
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
];

/// Whether all of it is private. To other addresses, no host's word leads a tenant's traffic.
fn is_private(subnet: Subnet) -> bool {
    PRIVATE.iter().any(|(address, prefix)| Subnet::new(*address, *prefix).is_ok_and(|block| block.covers(subnet)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ciao_common::store::{ClusterHost, Store, TenantList};

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
