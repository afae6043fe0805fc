// SPDX-License-Identifier: Apache-2.0
//! One address: whether it is reserved or abandoned, and how it becomes free.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use ciao_common::store::{AddressKind, PoolSet, Scope, Tx, now};

use crate::Config;

/// How many addresses are looked at, or changed, in one transaction: some milliseconds.
pub(crate) const AT_ONCE: usize = 250;

/// Whether a launcher assigned the address to an instance. Launchers act on one host: a swarm's pools have none.
pub(crate) fn is_reserved(tx: &Tx<'_>, set: &PoolSet, address: IpAddr) -> Result<bool> {
    if set.scope == Scope::Global {
        return Ok(false);
    }
    let Some(tenant) = tx.tenant_of_set(set)? else { return Ok(false) };
    Ok(tx.vnic_at(&tenant, set.subnet, address)?.is_some())
}

pub(crate) fn is_abandoned(tx: &Tx<'_>, set: &PoolSet, address: IpAddr, granted: i64, after: Duration) -> Result<bool> {
    let before = earlier(after);
    Ok(granted < before && tx.is_abandoned(set, address, before)?)
}

pub(crate) fn free(tx: &Tx<'_>, set: &PoolSet, address: IpAddr) -> Result<()> {
    if is_reserved(tx, set, address)? {
        return tx.reserve(set, address);
    }
    tx.delete_address(set, address)?;
    tx.give(set, address)
}

/// Frees leases of a set that are known to be nobody's, and addresses kept for instances whose VNIC is gone.
pub(crate) fn reclaim(tx: &Tx<'_>, config: &Config, set: &PoolSet) -> Result<()> {
    for address in tx.unclaimed_of_set(set, earlier(config.takeover), AT_ONCE)? {
        reclaim_lease(tx, config, set, address)?;
    }
    for address in tx.reserved_of_set(set)? {
        reclaim_reservation(tx, set, address)?;
    }
    Ok(())
}

/// Frees a lease if it still is nobody's, and only when the engine has given up to release it itself: otherwise it would
/// release that of the next holder. Says whether it did.
pub(crate) fn reclaim_lease(tx: &Tx<'_>, config: &Config, set: &PoolSet, address: IpAddr) -> Result<bool> {
    let Some(since) = tx.address(set, address)?.and_then(|held| held.unclaimed) else { return Ok(false) };
    if !tx.is_abandoned(set, address, earlier(config.grace))? {
        tx.forget_unclaimed(set, address)?;
        return Ok(false);
    }
    if since > earlier(config.takeover) {
        return Ok(false);
    }
    log::info!("lease {address} of {} is no endpoint's: given back", set.subnet);
    free(tx, set, address)?;
    Ok(true)
}

/// Frees an address that is kept for an instance, if its VNIC is gone. Says whether it did.
pub(crate) fn reclaim_reservation(tx: &Tx<'_>, set: &PoolSet, address: IpAddr) -> Result<bool> {
    let kept = tx.address(set, address)?.is_some_and(|held| held.kind == AddressKind::Reserved);
    if !kept || is_reserved(tx, set, address)? {
        return Ok(false);
    }
    tx.delete_address(set, address)?;
    tx.give(set, address)?;
    Ok(true)
}

pub(crate) fn earlier(by: Duration) -> i64 {
    now() - i64::try_from(by.as_millis()).unwrap_or(i64::MAX)
}
