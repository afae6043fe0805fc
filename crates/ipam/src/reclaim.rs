// SPDX-License-Identifier: Apache-2.0
//! Release of orphaned leases, gateways, and addresses reserved for deleted VNICs.
//!
//! Which leases are orphaned follows only from ciao-net's tables, so all leases are scanned by pages, while others
//! write. The change that releases a lease checks it again.

use std::net::IpAddr;

use anyhow::Result;
use ciao_common::store::{AddressKind, PoolSet, Tx};
use ciao_common::sync::lock;

use crate::lease::{AT_ONCE, free, is_reserved, reclaim_lease, reclaim_reservation};
use crate::{Ipam, START};

/// Maximum number of pages per run, a second or two. The next run continues from there.
const PAGES: usize = 400;

/// Maximum number of leases released per run.
const AT_MOST: usize = 20_000;

impl Ipam {
    /// Releases leases of ciao-net's networks that have had no endpoint for the grace time, and gateways without a
    /// network, as after a lost reply. Returns their number. Runs beside other changes, in small transactions: a host
    /// may have a million leases.
    pub fn reclaim(&self) -> Result<usize> {
        self.mark_abandoned()?;
        let reclaimed =
            self.reclaim_leases()? + self.reclaim_reservations()? + self.reclaim_gateways()? + self.reclaim_former()?;
        self.hold_gateways()?;
        Ok(reclaimed)
    }

    /// Records orphaned leases.
    fn mark_abandoned(&self) -> Result<()> {
        let before = self.store.ago(self.config.grace);
        let mut after = lock(&self.scanned);
        for _ in 0..PAGES {
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
        let found = self.store.read(|tx| tx.unclaimed(tx.ago(config.takeover), AT_MOST))?;
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

    /// Runs `change` for each address, several per transaction. Returns how often it returned true.
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

    /// Grants the missing references of gateways. An engine that loses the reply to a gateway's release repeats it, and
    /// another network may share the gateway.
    fn hold_gateways(&self) -> Result<()> {
        let before = self.store.ago(self.config.grace);
        if self.store.read(|tx| tx.unheld_gateways(before))?.is_empty() {
            return Ok(());
        }
        self.store.write(move |tx| hold_gateways(tx, before))
    }

    fn reclaim_gateways(&self) -> Result<usize> {
        let before = self.store.ago(self.config.grace);
        if self.store.read(|tx| tx.unclaimed_gateways(before))?.is_empty() {
            return Ok(0);
        }
        self.store.write(move |tx| reclaim_gateways(tx, before))
    }
}

/// Decreases the reference counts of gateways to the number of networks. An engine that loses the reply to a gateway's
/// request releases the pool, but not the gateway.
fn reclaim_gateways(tx: &Tx<'_>, before: i64) -> Result<usize> {
    let unclaimed = tx.unclaimed_gateways(before)?;
    for (set, address, held, networks) in &unclaimed {
        log_correction(set, *address, *held, *networks);
        match networks {
            0 => free(tx, set, *address)?,
            networks => tx.count_down(set, *address, held - networks)?,
        }
    }
    Ok(unclaimed.len())
}

/// Increases the reference counts of gateways to the number of networks, except if a container has the address now.
fn hold_gateways(tx: &Tx<'_>, before: i64) -> Result<()> {
    for (pool, address, held, networks) in tx.unheld_gateways(before)? {
        let (set, found) = (&pool.set, tx.address(&pool.set, address)?);
        if found.as_ref().is_some_and(|found| found.kind == AddressKind::Lease) {
            log::warn!(
                "gateway {address} of {} is in use by a container: give its network another gateway",
                set.subnet
            );
            continue;
        }
        log_correction(set, address, held, networks);
        if found.is_none() {
            tx.take(set, address)?;
        }
        tx.grant(&pool, address, AddressKind::Gateway)?;
        tx.count_down(set, address, held + 1 - networks)?;
    }
    Ok(())
}

fn log_correction(set: &PoolSet, address: IpAddr, held: i64, networks: i64) {
    let noun = if networks == 1 { "network" } else { "networks" };
    log::info!("reference count of gateway {address} of {} was {held} for {networks} {noun}: corrected", set.subnet);
}
