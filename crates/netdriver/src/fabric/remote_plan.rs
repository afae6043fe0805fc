// SPDX-License-Identifier: Apache-2.0
//! Which of a tenant's networks on other hosts this host routes to, by what a controller gives and hosts announce.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use ciao_common::store::{Egress, Egress6, Network, NetworkSubnet, TenantSubnet, Tx, VnicPolicy};
use ciao_common::types::{HostId, LinkName, Mtu, NetworkId, Subnet, TenantId};

use super::cluster::{IPV6_MTU, tunnel_mtu};
use crate::names;
use crate::uplink_pool::UplinkPool;

/// Of those that hosts announce: one that was broken into makes no more bridges here.
const MOST_ANNOUNCED: u32 = 32;

/// What is to be recorded otherwise: networks, the new ones with their VNIs.
pub(super) struct Plan {
    pub(super) stale: Vec<Network>,
    pub(super) new: Vec<(Network, u32)>,
}

/// What of this host decides on remote networks.
#[derive(Clone)]
pub(crate) struct Here {
    /// Its name in the list of hosts.
    pub(super) own: Option<HostId>,
    pub(super) pool: UplinkPool,
    /// What its administrator allows of subnets that other hosts announce.
    pub(super) allowed: Vec<Subnet>,
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

/// Whether a network of a tenant's on this host is to leave it encrypted: then the others of its are, too.
pub(super) fn is_encrypted(tx: &Tx<'_>, tenant: &TenantId) -> Result<bool> {
    for network in tx.networks_of_tenant(tenant)?.iter().filter(|network| !network.remote) {
        if tx.tunnel(&network.id)?.is_some_and(|tunnel| tunnel.encrypted) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn plan(tx: &Tx<'_>, tenant: &TenantId, here: &Here) -> Result<(Plan, Vec<Omitted>)> {
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
        // The tenant's own networks may be encrypted now, or no longer.
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
