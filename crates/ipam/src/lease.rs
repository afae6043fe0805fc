// SPDX-License-Identifier: Apache-2.0
//! Release of a single address.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use ciao_common::store::{AddressKind, PoolSet, Scope, Tx};

use crate::Config;

/// Addresses read or changed in one transaction, which takes some milliseconds.
pub(crate) const AT_ONCE: usize = 250;

/// Whether a launcher assigned the address to an instance. Launchers are local to a host, so a swarm's pools have none.
pub(crate) fn is_reserved(tx: &Tx<'_>, set: &PoolSet, address: IpAddr) -> Result<bool> {
    if set.scope == Scope::Global || !tx.has_reservations(set)? {
        return Ok(false);
    }
    let Some(tenant) = tx.tenant_of_set(set)? else { return Ok(false) };
    Ok(tx.vnic_at(&tenant, set.subnet, address)?.is_some())
}

pub(crate) fn is_abandoned(tx: &Tx<'_>, set: &PoolSet, address: IpAddr, granted: i64, after: Duration) -> Result<bool> {
    let before = tx.ago(after);
    Ok(granted < before && tx.is_abandoned(set, address, before)?)
}

pub(crate) fn free(tx: &Tx<'_>, set: &PoolSet, address: IpAddr) -> Result<()> {
    if is_reserved(tx, set, address)? {
        return tx.reserve(set, address);
    }
    tx.delete_address(set, address)?;
    tx.give(set, address)
}

/// Releases the orphaned leases of a set, and addresses reserved for VNICs that are deleted.
pub(crate) fn reclaim(tx: &Tx<'_>, config: &Config, set: &PoolSet) -> Result<()> {
    for address in tx.unclaimed_of_set(set, tx.ago(config.takeover), AT_ONCE)? {
        reclaim_lease(tx, config, set, address)?;
    }
    for address in tx.reserved_of_set(set)? {
        reclaim_reservation(tx, set, address)?;
    }
    Ok(())
}

/// Releases a lease if it is still orphaned, after the engine has stopped its own attempts to release it, which would
/// hit the next holder. Returns whether it was released.
pub(crate) fn reclaim_lease(tx: &Tx<'_>, config: &Config, set: &PoolSet, address: IpAddr) -> Result<bool> {
    let Some(since) = tx.address(set, address)?.and_then(|held| held.unclaimed) else { return Ok(false) };
    if !tx.is_abandoned(set, address, tx.ago(config.grace))? {
        tx.forget_unclaimed(set, address)?;
        return Ok(false);
    }
    if since > tx.ago(config.takeover) {
        return Ok(false);
    }
    log::info!("released orphaned lease {address} of {}", set.subnet);
    free(tx, set, address)?;
    Ok(true)
}

/// Releases an address reserved for an instance, if its VNIC is deleted. Returns whether it was released.
pub(crate) fn reclaim_reservation(tx: &Tx<'_>, set: &PoolSet, address: IpAddr) -> Result<bool> {
    let kept = tx.address(set, address)?.is_some_and(|held| held.kind == AddressKind::Reserved);
    if !kept || is_reserved(tx, set, address)? {
        return Ok(false);
    }
    tx.delete_address(set, address)?;
    tx.give(set, address)?;
    Ok(true)
}
