// SPDX-License-Identifier: Apache-2.0
//! A tenant's networks on other hosts, to which this host routes where it has another network of the tenant, or by
//! which the tenant's packets leave: each is recorded like Docker's. It has a bridge with its gateway and a tunnel, and
//! no VNIC.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result};
use ciao_common::store::{Egress, Egress6, Network, NetworkSubnet, TenantSubnet, Tunnel, Tx, VnicPolicy};
use ciao_common::types::{HostId, LinkName, Mtu, NetworkId, Subnet, TenantId};

use super::Fabric;
use super::cluster::{IPV6_MTU, tunnel_mtu};
use crate::names;
use crate::uplink_pool::UplinkPool;

/// Of those that hosts announce: one that was broken into makes no more bridges here.
const MOST_ANNOUNCED: u32 = 32;

/// What is to be recorded otherwise: networks, the new ones with their VNIs.
struct Plan {
    stale: Vec<Network>,
    new: Vec<(Network, u32)>,
}

/// What of this host decides on remote networks.
#[derive(Clone)]
pub(crate) struct Here {
    /// Its name in the list of hosts.
    own: Option<HostId>,
    pool: UplinkPool,
    /// What its administrator allows of subnets that other hosts announce.
    allowed: Vec<Subnet>,
}

/// A subnet of a tenant on other hosts that is not routed to.
pub(crate) struct Omitted {
    pub(crate) subnet: Subnet,
    /// Which announces it; `None`: a controller gives it.
    pub(crate) host: Option<HostId>,
    pub(crate) why: String,
}

/// Networks with their VNIs, and what is none.
type Wanted = (Vec<(Network, u32)>, Vec<Omitted>);

/// A subnet, and who announces it.
type Sourced = (Option<HostId>, TenantSubnet);

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

/// Whether a network of a tenant's on this host is to leave it encrypted: then the others of its are, too.
fn is_encrypted(tx: &Tx<'_>, tenant: &TenantId) -> Result<bool> {
    for network in tx.networks_of_tenant(tenant)?.iter().filter(|network| !network.remote) {
        if tx.tunnel(&network.id)?.is_some_and(|tunnel| tunnel.encrypted) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn plan(tx: &Tx<'_>, tenant: &TenantId, here: &Here) -> Result<(Plan, Vec<Omitted>)> {
    let (remote, own): (Vec<_>, Vec<_>) =
        tx.networks_of_tenant(tenant)?.into_iter().partition(|network| network.remote);
    let cnci = tx.cnci(tenant)?;
    // While this host's address is away, as at each boot, it is a concentrator if it was one.
    let is_cnci = here.own.as_ref().map_or(!cnci.is_empty() && !remote.is_empty(), |own| cnci.contains(own));
    let is_here = is_cnci || own.iter().any(|network| network.namespace.is_some());
    let (mut wanted, omitted) = if is_here { wanted(tx, tenant, &own, here)? } else { Default::default() };
    let encrypted = is_encrypted(tx, tenant)?;
    let (mut kept, mut stale) = (Vec::new(), Vec::new());
    for old in remote {
        // Encrypted as the tenant's own networks are by now.
        let fits = tx.tunnel(&old.id)?.is_some_and(|tunnel| tunnel.encrypted == encrypted);
        let is_kept = fits && wanted.iter().any(|(new, _)| *new == old);
        if is_kept { kept.push(old) } else { stale.push(old) }
    }
    wanted.retain(|(new, _)| !kept.contains(new));
    Ok((Plan { stale, new: wanted }, omitted))
}

/// The remote networks that a tenant is to have, with their VNIs; and what of its subnets is none.
fn wanted(tx: &Tx<'_>, tenant: &TenantId, own: &[Network], here: &Here) -> Result<Wanted> {
    let mut taken: Vec<Subnet> = own.iter().flat_map(|network| &network.subnets).map(|subnet| subnet.subnet).collect();
    let vnics = tx.launcher_subnets(tenant)?;
    let (mut by_vni, mut omitted) = (BTreeMap::<u32, Vec<Sourced>>::new(), Vec::new());
    let mut omit = |(host, one): Sourced, why: String| omitted.push(Omitted { subnet: one.subnet, host, why });
    let (mut known, mut count) = (BTreeSet::from_iter(taken.iter().copied()), 0);
    let given = tx.tenant_subnets(tenant)?.into_iter().map(|one| (None, one));
    let announced = tx.announced_subnets(tenant)?.into_iter().map(|(host, one)| (Some(host), one));
    for (host, one) in given.chain(announced) {
        // The earliest announcement of each.
        if !known.insert(one.subnet) {
            continue;
        }
        let differs = |(other, _): &(Subnet, Option<IpAddr>)| *other != one.subnet && other.overlaps(one.subnet);
        let good = one.subnet.check_for_hosts(Some(one.gateway)).and(here.pool.check_disjoint(one.subnet));
        let why = if host.is_some() && !here.allowed.iter().any(|allowed| allowed.covers(one.subnet)) {
            "no --exchange-subnet of this host has it".to_owned()
        } else if taken.iter().any(|other| other.overlaps(one.subnet)) || vnics.iter().any(differs) {
            "it overlaps another one of the tenant here".to_owned()
        } else if let Err(error) = good {
            format!("{error:#}")
        } else if host.is_some() && count == MOST_ANNOUNCED {
            format!("other hosts announce more than {MOST_ANNOUNCED}")
        } else {
            count += u32::from(host.is_some());
            taken.push(one.subnet);
            by_vni.entry(one.vni).or_default().push((host, one));
            continue;
        };
        omit((host, one), why);
    }
    let mut networks = Vec::new();
    for (vni, mut sourced) in by_vni {
        let id: NetworkId = format!("vni{vni}").parse()?;
        // A VNI is one network's.
        let is_taken = tx.tunnel_of_vni(vni)?.is_some_and(|tunnel| tunnel.network != id)
            || tx.network(&id)?.is_some_and(|other| other.tenant.as_ref() != Some(tenant));
        sourced.sort_by_key(|(_, one)| (one.subnet.network().is_ipv6(), one.subnet.to_string()));
        let subnets: Vec<_> = sourced.iter().map(|(_, one)| one.clone()).collect();
        let bridge = if is_taken { None } else { bridge_of(tx, tenant, &id, &subnets)? };
        let Some(bridge) = bridge else {
            let why = format!("another network here has its VNI {vni} or bridge");
            sourced.into_iter().for_each(|one| omit(one, why.clone()));
            continue;
        };
        let network = network(tx, (tenant, id), bridge, &subnets)?;
        // The kernel has no IPv6 on such a link.
        let small = network.mtu.filter(|mtu| mtu.bytes() < IPV6_MTU);
        if let (Some(mtu), true) = (small, subnets.iter().any(|one| one.subnet.network().is_ipv6())) {
            let why = format!("its MTU {mtu} is too small for IPv6");
            sourced.into_iter().for_each(|one| omit(one, why.clone()));
            continue;
        }
        networks.push((network, vni));
    }
    Ok((networks, omitted))
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
