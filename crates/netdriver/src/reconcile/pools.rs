// SPDX-License-Identifier: Apache-2.0
//! Pools of ciao-ipam that were lost with the database, made again: those of ciao-net's networks with these, those of
//! other drivers' networks by themselves. Docker does not list PoolIDs: ciao-ipam recognizes a pool when its PoolID is
//! used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::ipam::SERIAL;
use ciao_common::api::listing::{ListedEndpoint, ListedNetwork, ListedSubnet, PoolKey};
use ciao_common::store::{AddressKind, Pool, PoolSet, Tx};
use ciao_common::types::{AddressSpace, PoolId, Scope, Subnet, TenantId};

use super::Known;
use super::repairs::Repairs;
use crate::Driver;

pub(super) const WHY: &str = "its record was lost";

/// Whether one of the others may have a pool of the same kind.
pub(super) fn is_alike(network: &ListedNetwork, others: &[&ListedNetwork]) -> bool {
    let keys = |network: &ListedNetwork| -> BTreeSet<PoolKey> {
        network.ipam.config.iter().filter_map(|subnet| key(network, subnet).ok()).collect()
    };
    let own = keys(network);
    others.iter().any(|other| !own.is_disjoint(&keys(other)))
}

fn key(network: &ListedNetwork, subnet: &ListedSubnet) -> Result<PoolKey> {
    let options = &network.ipam.options;
    let tenant = options.get("tenant").map(|text| text.parse()).transpose()?;
    let is_serial = options.get(SERIAL).is_some_and(|text| text == "true" || text == "1");
    Ok((tenant, subnet.subnet, subnet.ip_range, is_serial))
}

/// A network's addresses in one subnet.
#[derive(Clone)]
struct InUse {
    gateway: Option<IpAddr>,
    /// What the engine took for the gateway, if it lists none.
    lowest: IpAddr,
    leases: Vec<IpAddr>,
}

impl InUse {
    fn of(network: &ListedNetwork, subnet: &ListedSubnet) -> Self {
        let containers = network.containers.values().flat_map(ListedEndpoint::addresses).flatten();
        let all = containers.chain(subnet.auxiliary_addresses.values().copied());
        let leases = all.filter(|address| subnet.subnet.contains(*address)).collect();
        let usable = subnet.subnet.usable();
        let range = subnet.ip_range.and_then(|range| usable.intersection(range.range())).unwrap_or(usable);
        Self { gateway: subnet.gateway(), lowest: subnet.subnet.family().address(range.first), leases }
    }

    fn is_held(&self, tx: &Tx<'_>, set: &PoolSet) -> Result<bool> {
        for address in self.leases.iter().chain(&self.gateway) {
            if tx.address(set, *address)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Grants what is not granted, so that all addresses in use are known. A new reference has the gateway once more.
    fn grant(&self, tx: &Tx<'_>, pool: &Pool, is_new: bool) -> Result<()> {
        self.leases.iter().try_for_each(|address| grant(tx, pool, *address, AddressKind::Lease))?;
        let gateway = self.gateway.unwrap_or(self.lowest);
        let found = tx.address(&pool.set, gateway)?.map(|found| found.kind);
        let is_shared = is_new && found == Some(AddressKind::Gateway);
        if found.is_none() || is_shared || (self.gateway.is_some() && found != Some(AddressKind::Gateway)) {
            grant(tx, pool, gateway, AddressKind::Gateway)?;
        }
        Ok(())
    }
}

impl Driver {
    /// The pools of networks that are not ciao-net's, with the addresses in use there. A swarm's are on its leader.
    /// What was released since the list stays so.
    pub(super) fn rebuild_pools(&self, repairs: &mut Repairs<'_>, known: &Known, all: &[&ListedNetwork]) -> Result<()> {
        let settled = self.settled(Some(known));
        let mut pools = BTreeMap::<PoolKey, (Vec<&str>, Vec<InUse>)>::new();
        for network in all.iter().filter(|network| network.scope != "swarm") {
            for subnet in &network.ipam.config {
                let (names, all) = pools.entry(key(network, subnet)?).or_default();
                names.push(network.id.short());
                all.push(InUse::of(network, subnet));
            }
        }
        for (key, (names, all)) in pools {
            if self.store.read(|tx| is_lost(tx, &key, &all, settled))? {
                let what = format!("pool {} of network {}", key.1, names.join(", "));
                repairs.repair("record", what, WHY, |driver| {
                    driver.store.write(move |tx| match &key.0 {
                        Some(tenant) => record_tenant_s(tx, tenant, &key, &all),
                        None => record_own(tx, &key, all),
                    })
                });
            }
        }
        Ok(())
    }
}

/// The recorded pools with a reference that is no network's of ciao-net.
fn others(tx: &Tx<'_>, (tenant, subnet, range, serial): &PoolKey) -> Result<Vec<Pool>> {
    let mut pools = tx.pools_without_network(Scope::Local, *subnet)?;
    pools.retain(|pool| pool.set.tenant == *tenant && pool.sub_pool == *range && pool.serial == *serial);
    Ok(pools)
}

/// The number of these references.
fn free_refs(tx: &Tx<'_>, pools: &[Pool]) -> Result<i64> {
    pools.iter().try_fold(0, |sum, pool| Ok(sum + pool.refs - tx.networks_on_pool(pool)?))
}

/// The networks without a tenant whose addresses no pool has, and the pools that may be theirs.
fn unmatched(tx: &Tx<'_>, key: &PoolKey, mut networks: Vec<InUse>) -> Result<(Vec<InUse>, Vec<Pool>)> {
    let mut rest = Vec::new();
    for pool in others(tx, key)? {
        let mut found = None;
        for (index, network) in networks.iter().enumerate().filter(|_| !pool.incomplete) {
            if found.is_none() && network.is_held(tx, &pool.set)? {
                found = Some(index);
            }
        }
        match found {
            Some(index) => drop(networks.remove(index)),
            None => rest.push(pool),
        }
    }
    Ok((networks, rest))
}

/// Whether there are fewer pools than networks, and none was released since `settled`, or there is a pool whose
/// allocated addresses are not known.
fn is_lost(tx: &Tx<'_>, key: &PoolKey, networks: &[InUse], settled: i64) -> Result<bool> {
    let (count, pools) = match &key.0 {
        Some(_) => (networks.len(), others(tx, key)?),
        None => {
            let (networks, pools) = unmatched(tx, key, networks.to_vec())?;
            (networks.len(), pools)
        }
    };
    let is_missing = free_refs(tx, &pools)? < i64::try_from(count)? && !tx.is_released_since(key.1, settled)?;
    Ok(count > 0 && (is_missing || pools.iter().any(|pool| pool.incomplete)))
}

/// A tenant's pool, which all its networks with that subnet and range share.
fn record_tenant_s(tx: &Tx<'_>, tenant: &TenantId, key: &PoolKey, networks: &[InUse]) -> Result<bool> {
    let mut free = free_refs(tx, &others(tx, key)?)?;
    for network in networks {
        let pool = if free > 0 { alike(tx, tenant, key)?.context("its pool was released")? } else { again(tx, key)? };
        network.grant(tx, &pool, free <= 0)?;
        free -= 1;
    }
    Ok(true)
}

fn record_own(tx: &Tx<'_>, key: &PoolKey, networks: Vec<InUse>) -> Result<bool> {
    let (networks, pools) = unmatched(tx, key, networks)?;
    let known_again: Vec<_> = pools.iter().filter(|pool| pool.incomplete).collect();
    match (&networks[..], &known_again[..]) {
        (networks, []) if pools.is_empty() => {
            networks.iter().try_for_each(|network| network.grant(tx, &again(tx, key)?, true))?;
        }
        ([network], [pool]) => network.grant(tx, pool, false)?,
        _ => bail!("{}", nobody_s(&pools, key)),
    }
    Ok(true)
}

fn nobody_s(pools: &[Pool], key: &PoolKey) -> String {
    format!("it is unknown which network each of {} pools {} is of: create the networks again", pools.len(), key.1)
}

/// The pool of a network of ciao-net: as its PoolID describes it, or else with one that ciao-ipam replaces by Docker's.
/// `is_alone`: no other driver's network may have it.
pub(super) fn pool_again(
    tx: &Tx<'_>,
    network: &ListedNetwork,
    subnet: &ListedSubnet,
    id: Option<PoolId>,
    is_alone: bool,
) -> Result<Pool> {
    let described = id.as_ref().and_then(PoolId::description);
    let space = described.as_ref().map_or_else(|| AddressSpace::of(Scope::Local), |pool| pool.space.clone());
    if let Some(id) = &id
        && let Some(pool) = tx.pool_by_id(id)?
    {
        // ciao-ipam may have made it again, or another network is on it too.
        if !tx.pools_without_network(Scope::Local, subnet.subnet)?.contains(&pool) {
            tx.add_pool_ref(&pool, &space)?;
        }
        return tx.pool_by_id(id)?.context("its pool was released");
    }
    let key = match described {
        Some(pool) => (pool.tenant, subnet.subnet, pool.sub_pool, pool.serial),
        None => key(network, subnet)?,
    };
    if let Some(id) = id {
        let set = set_again(tx, key.0.as_ref(), subnet.subnet)?;
        return tx.insert_pool_as(&set, &id, &space, key.2, key.3);
    }
    // ciao-ipam may have made it again, by the PoolID that no alias has.
    let mut known_again = others(tx, &key)?;
    known_again.retain(|pool| pool.incomplete);
    match &known_again[..] {
        [_] if key.0.is_none() && !is_alone => bail!("{}", nobody_s(&known_again, &key)),
        [pool] => Ok(pool.clone()),
        _ => again(tx, &key),
    }
}

/// A reference to the tenant's pool, or a new pool, under a PoolID that ciao-ipam replaces by Docker's.
fn again(tx: &Tx<'_>, key: &PoolKey) -> Result<Pool> {
    let (tenant, subnet, range, serial) = key;
    let space = AddressSpace::of(Scope::Local);
    if let Some(pool) = tenant.as_ref().map(|tenant| alike(tx, tenant, key)).transpose()?.flatten() {
        tx.add_pool_ref(&pool, &space)?;
        return tx.pool_by_id(&pool.pool_id)?.context("its pool was released");
    }
    let set = set_again(tx, tenant.as_ref(), *subnet)?;
    tx.insert_pool_as(&set, &PoolId::lost(), &space, *range, *serial)
}

fn alike(tx: &Tx<'_>, tenant: &TenantId, (_, subnet, range, serial): &PoolKey) -> Result<Option<Pool>> {
    let set = tx.pool_set_of(Scope::Local, tenant, *subnet)?;
    Ok(set.map(|set| tx.pool_alike(&set, *range, Some(*serial))).transpose()?.flatten())
}

fn set_again(tx: &Tx<'_>, tenant: Option<&TenantId>, subnet: Subnet) -> Result<PoolSet> {
    let same = tenant.map(|tenant| tx.pool_set_of(Scope::Local, tenant, subnet)).transpose()?.flatten();
    same.map_or_else(|| tx.insert_pool_set(Scope::Local, tenant, subnet), Ok)
}

/// Grants an address to an endpoint, unless it is granted, or once more to a network's gateway.
pub(super) fn grant(tx: &Tx<'_>, pool: &Pool, address: IpAddr, kind: AddressKind) -> Result<()> {
    match tx.address(&pool.set, address)?.map(|held| held.kind) {
        None => ensure!(tx.take(&pool.set, address)?, "address {address} is not one of pool {}", pool.set.subnet),
        Some(AddressKind::Lease) if kind == AddressKind::Lease => return Ok(()),
        Some(AddressKind::Lease) => bail!("gateway {address} is in use by a container"),
        Some(AddressKind::Gateway) if kind == AddressKind::Lease => bail!("address {address} is in use as a gateway"),
        Some(AddressKind::Gateway | AddressKind::Reserved) => {}
    }
    tx.grant(pool, address, kind)
}
