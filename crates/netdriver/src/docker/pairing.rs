// SPDX-License-Identifier: Apache-2.0
//! Which of ciao-ipam's pools a network is on.
//!
//! ciao-ipam answers a fresh local address space for every network, and Docker hands it to both drivers: the pool and
//! the network with one nonce belong together. An engine that asks for address spaces once, such as 20.10, gives one
//! nonce to all its networks. There a pool is found by tenant, subnet and gateway, and by time: the engine requests it
//! right before it makes the network. Where two could be meant, and one of the networks has a tenant, the network is
//! refused. Networks without tenant may be paired crosswise: both sets are empty then, and the first endpoint, whose
//! address was granted in one of them alone, corrects that.
//!
//! A pool that was requested without a tenant becomes the tenant's by [`Tx::claim`].

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, bail};
use ciao_common::api::network::IpamData;
use ciao_common::store::{Network, Pool, Tx};
use ciao_common::types::{AddressSpace, PoolId, TenantId};

/// Requests that are further apart, in milliseconds, are not of networks that are made at the same moment: the older
/// one's network came to nothing.
const AT_ONCE: i64 = 60_000;

/// What is found for one subnet of a new network.
pub(crate) enum Pairing {
    /// A pool, of the network's tenant or of none.
    Pool(Box<Pool>),
    /// Another IPAM driver's.
    Foreign,
    /// One of several, of which another one may be a network's that is made at the same moment.
    Contested,
}

/// Finds the pool of one subnet of a new network.
///
/// # Errors
/// The pool is another tenant's; there is none.
pub(crate) fn find(tx: &Tx<'_>, tenant: Option<&TenantId>, data: &IpamData) -> Result<Pairing> {
    // Other IPAM drivers call their address spaces otherwise: Docker's own is "LocalDefault".
    let Ok(space) = data.address_space.parse::<AddressSpace>() else { return Ok(Pairing::Foreign) };
    let subnet = data.pool;
    let free = tx.pools_without_network(space.scope(), subnet)?;
    let mut fitting = Vec::new();
    for pool in &free {
        if is_fitting(tx, pool, tenant, data)? {
            fitting.push(pool);
        }
    }
    // An engine may ask for address spaces once more between the two families of a network.
    let known = fitting.iter().any(|pool| pool.nonce == space.nonce());
    if known {
        fitting.retain(|pool| pool.nonce == space.nonce());
    }
    let is_another_s = |pool: &&Pool| pool.set.tenant.is_some() && pool.set.tenant.as_ref() != tenant;
    let others: Vec<_> =
        free.iter().filter(is_another_s).filter_map(|pool| Some((pool, pool.set.tenant.as_ref()?))).collect();
    let refused = |other: &TenantId| {
        anyhow!(
            "ciao-ipam has a pool {subnet} of tenant {other}: give -o tenant={other} with --ipam-opt tenant={other}"
        )
    };
    // Requested for this network, so no other pool of its tenant is meant.
    if !known
        && !space.nonce().is_empty()
        && let Some((_, other)) = others.iter().find(|(pool, _)| pool.nonce == space.nonce())
    {
        return Err(refused(other));
    }
    // The newest request comes first.
    if let Some(newest) = fitting.first().copied() {
        let nonce = known.then_some(space.nonce());
        let contested = tenant.is_some() && is_contested(tx, newest, &fitting, nonce)?;
        return Ok(if contested { Pairing::Contested } else { Pairing::Pool(Box::new(newest.clone())) });
    }
    if let Some(tenant) = tenant
        && let Some(set) = tx.pool_set_of(space.scope(), tenant, subnet)?
        && let Some(pool) = tx.pools_of_set(&set)?.pop()
    {
        return Ok(Pairing::Pool(Box::new(pool)));
    }
    if let Some((_, other)) = others.first() {
        return Err(refused(other));
    }
    if space.nonce().is_empty() {
        return Ok(Pairing::Foreign);
    }
    bail!("ciao-ipam has no pool {subnet} in address space {space}: create the network again")
}

/// Whether the pool can be the one that the engine requested for the network.
fn is_fitting(tx: &Tx<'_>, pool: &Pool, tenant: Option<&TenantId>, data: &IpamData) -> Result<bool> {
    if pool.set.tenant.is_some() && pool.set.tenant.as_ref() != tenant {
        return Ok(false);
    }
    match data.gateway {
        Some(gateway) => Ok(tx.address(&pool.set, gateway.ip())?.is_some()),
        None => Ok(true),
    }
}

/// Whether a network that is made at the same moment may be on `newest`, or already is on the one that is meant.
fn is_contested(tx: &Tx<'_>, newest: &Pool, fitting: &[&Pool], nonce: Option<&str>) -> Result<bool> {
    let mut others = fitting.iter().filter(|other| other.set.id != newest.set.id);
    if others.any(|other| newest.requested - other.requested < AT_ONCE) {
        return Ok(true);
    }
    Ok(newest.set.tenant.is_none() && tx.is_paired_by_time_alone(newest, nonce)?)
}

/// The set of addresses of a pool that was found, which is the tenant's from now on.
///
/// # Errors
/// An address of the pool conflicts with one of the tenant's own.
pub(crate) fn take(tx: &Tx<'_>, tenant: Option<&TenantId>, pairing: Pairing) -> Result<Option<(i64, PoolId)>> {
    let Pairing::Pool(pool) = pairing else { return Ok(None) };
    let set = match tenant.filter(|_| pool.set.tenant.is_none()) {
        Some(tenant) => tx
            .assign_pool(&pool, tenant)
            .with_context(|| format!("assign pool {} to tenant {tenant}", pool.set.subnet))?,
        None => pool.set,
    };
    Ok(Some((set.id, pool.pool_id)))
}

/// Corrects a crosswise pairing, when an endpoint with `address` comes to `network`.
pub(crate) fn settle(tx: &Tx<'_>, network: &Network, address: IpAddr) -> Result<()> {
    let Some(subnet) = network.subnets.iter().find(|subnet| subnet.subnet.contains(address)) else { return Ok(()) };
    let Some(mine) = subnet.set_id else { return Ok(()) };
    let Some((right, paired_with)) = tx.own_set_holding(mine, subnet.subnet, address)? else { return Ok(()) };
    log::info!("network {} uses another address pool of {}: corrected", network.id.short(), subnet.subnet);
    if let Some(other) = paired_with {
        tx.set_network_set(&other, subnet.subnet, mine)?;
    }
    tx.set_network_set(&network.id, subnet.subnet, right)
}

/// Gives a network without tenant, whose pool was released for another one that was made at the same moment, the pool
/// that is left of the two.
pub(crate) fn settle_released(tx: &Tx<'_>, network: &Network) -> Result<()> {
    if network.tenant.is_some() {
        return Ok(());
    }
    for subnet in &network.subnets {
        let Some(gone) = &subnet.pool else { continue };
        let Some(described) = gone.description().filter(|_| subnet.set_id.is_some()) else { continue };
        if tx.pool_by_id(gone)?.is_some() {
            continue;
        }
        let left = tx.pools_without_network(described.space.scope(), subnet.subnet)?;
        if let Some(pool) = left.iter().find(|pool| pool.set.tenant.is_none() && pool.nonce == described.space.nonce())
        {
            log::info!("network {} uses another address pool of {}: corrected", network.id.short(), subnet.subnet);
            tx.set_network_set(&network.id, subnet.subnet, pool.set.id)?;
        }
    }
    Ok(())
}
