// SPDX-License-Identifier: Apache-2.0
//! Giving back what nobody claimed: leases, gateways, and addresses kept for instances whose VNIC is gone.
//!
//! What is nobody's shows in ciao-net's tables alone, so all leases are looked at, by pages and while others write.
//! What is found is looked at again by the change that gives it back.

use std::net::IpAddr;
use std::sync::PoisonError;

use anyhow::Result;
use ciao_common::store::{AddressKind, PoolSet, Tx};

use crate::lease::{AT_ONCE, earlier, free, is_reserved, reclaim_lease, reclaim_reservation};
use crate::{Ipam, START};

/// How many such looks there are at most, a second or two: the next time goes on from there.
const LOOKS: usize = 400;

/// How many leases are given back at most, for the same reason.
const AT_MOST: usize = 20_000;

impl Ipam {
    /// Gives back what nobody claimed: leases of ciao-net's networks older than the grace that no endpoint has, and
    /// gateways that no network has, as after a lost reply. Says how many.
    ///
    /// It looks while others write, and changes little at a time: a host may have a million leases.
    ///
    /// # Errors
    /// The disk's.
    pub fn reclaim(&self) -> Result<usize> {
        self.mark_abandoned()?;
        let reclaimed =
            self.reclaim_leases()? + self.reclaim_reservations()? + self.reclaim_gateways()? + self.reclaim_former()?;
        self.hold_gateways()?;
        Ok(reclaimed)
    }

    /// Records of leases that they are nobody's.
    fn mark_abandoned(&self) -> Result<()> {
        let before = earlier(self.config.grace);
        let mut after = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..LOOKS {
            let page = self.store.read(|tx| tx.newly_abandoned(*after, before, AT_ONCE))?;
            let Some((set, address, _)) = page.last() else {
                *after = START;
                break;
            };
            *after = (set.id, *address);
            let found = page.into_iter().filter(|(_, _, newly)| *newly).map(|(set, address, _)| (set, address));
            self.change_each(found.collect(), move |tx, set, address| {
                let abandoned = tx.is_abandoned(set, address, before)?;
                if abandoned {
                    tx.set_unclaimed(set, address)?;
                }
                Ok(abandoned)
            })?;
        }
        Ok(())
    }

    fn reclaim_leases(&self) -> Result<usize> {
        let config = self.config.clone();
        let found = self.store.read(|tx| tx.unclaimed(earlier(config.takeover), AT_MOST))?;
        self.change_each(found, move |tx, set, address| reclaim_lease(tx, &config, set, address))
    }

    fn reclaim_reservations(&self) -> Result<usize> {
        let found = self.store.read(|tx| {
            let mut found = Vec::new();
            for (set, address) in tx.reserved()? {
                if !is_reserved(tx, &set, address)? {
                    found.push((set, address));
                }
            }
            Ok(found)
        })?;
        self.change_each(found, reclaim_reservation)
    }

    /// Some in each transaction. Says for how many `change` said yes.
    fn change_each(
        &self,
        mut found: Vec<(PoolSet, IpAddr)>,
        change: impl Fn(&Tx<'_>, &PoolSet, IpAddr) -> Result<bool> + Clone + Send + 'static,
    ) -> Result<usize> {
        let mut count = 0;
        while !found.is_empty() {
            let some = found.split_off(found.len().saturating_sub(AT_ONCE));
            let change = change.clone();
            count += self.store.write(move |tx| {
                some.iter().try_fold(0, |count, (set, address)| Ok(count + usize::from(change(tx, set, *address)?)))
            })?;
        }
        Ok(count)
    }

    /// Grants gateways that networks have and that are free. The engine that loses the reply to a gateway's release sends
    /// it again, and another network may have shared it.
    fn hold_gateways(&self) -> Result<()> {
        let before = earlier(self.config.grace);
        if self.store.read(|tx| tx.unheld_gateways(before))?.is_empty() {
            return Ok(());
        }
        self.store.write(move |tx| hold_gateways(tx, before))
    }

    fn reclaim_gateways(&self) -> Result<usize> {
        let before = earlier(self.config.grace);
        if self.store.read(|tx| tx.unclaimed_gateways(before))?.is_empty() {
            return Ok(0);
        }
        self.store.write(move |tx| reclaim_gateways(tx, before))
    }
}

/// Counts gateways down to the networks that have them. The engine that loses the reply to a gateway's request gives its
/// reference to the pool back, but not the gateway.
fn reclaim_gateways(tx: &Tx<'_>, before: i64) -> Result<usize> {
    let unclaimed = tx.unclaimed_gateways(before)?;
    for (set, address, held, networks) in &unclaimed {
        log::info!("gateway {address} of {} was granted {held} times for {networks} networks: put right", set.subnet);
        match networks {
            0 => free(tx, set, *address)?,
            networks => tx.count_down(set, *address, held - networks)?,
        }
    }
    Ok(unclaimed.len())
}

/// Counts gateways up to the networks that have them, but for one that a container got meanwhile.
fn hold_gateways(tx: &Tx<'_>, before: i64) -> Result<()> {
    for (pool, address, held, networks) in tx.unheld_gateways(before)? {
        let (set, found) = (&pool.set, tx.address(&pool.set, address)?);
        if found.as_ref().is_some_and(|found| found.kind == AddressKind::Lease) {
            log::warn!("gateway {address} of {} is a container's by now: give its network another one", set.subnet);
            continue;
        }
        log::info!("gateway {address} of {} was granted {held} times for {networks} networks: put right", set.subnet);
        if found.is_none() {
            tx.take(set, address)?;
        }
        tx.grant(&pool, address, AddressKind::Gateway)?;
        tx.count_down(set, address, held + 1 - networks)?;
    }
    Ok(())
}
