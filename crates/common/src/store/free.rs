// SPDX-License-Identifier: Apache-2.0
//! Table `free_range`: the free addresses of a set, as ranges that do not touch.
//!
//! An address is either in one of these ranges or in `address_record`. Removing an address and adding one change at
//! most three rows, found by primary key, so the cost is logarithmic in the number of ranges: an empty /24, a full /8
//! and an IPv6 /64 cost the same.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use rusqlite::params;

use super::memory::{FEW, Runs, same};
use super::value::{Key, Text, range};
use super::{PoolSet, Tx};
use crate::types::{AddressRange, Family, Subnet, number};

impl Tx<'_> {
    /// The lowest free address within `range`.
    pub fn lowest_free(&self, set: &PoolSet, range: AddressRange) -> Result<Option<u128>> {
        Ok(self.lowest(set, range)?.map(|(_, number)| number))
    }

    /// Removes the lowest free address within `range` from the free ranges, and returns it.
    pub fn take_lowest(&self, set: &PoolSet, range: AddressRange) -> Result<Option<u128>> {
        let Some((run, number)) = self.lowest(set, range)? else { return Ok(None) };
        self.take_from(set, run, number).map(|()| Some(number))
    }

    fn lowest(&self, set: &PoolSet, range: AddressRange) -> Result<Option<(AddressRange, u128)>> {
        let run = self.run_from(set, range.first)?;
        Ok(run.map(|run| (run, run.first.max(range.first))).filter(|(_, number)| *number <= range.last))
    }

    /// Removes an address from the free ranges. `false`: it was not free.
    pub fn take(&self, set: &PoolSet, address: IpAddr) -> Result<bool> {
        let number = number(address);
        match self.run_from(set, number)?.filter(|run| run.contains(number)) {
            Some(run) => self.take_from(set, run, number).map(|()| true),
            None => Ok(false),
        }
    }

    fn take_from(&self, set: &PoolSet, run: AddressRange, number: u128) -> Result<()> {
        let family = set.subnet.family();
        match run.without(number) {
            (None, None) => self.delete_run(set, family, run.last),
            // The row's key is its last address, which stays.
            (below, Some(above)) => {
                self.set_run_first(set, family, above)?;
                below.map_or(Ok(()), |below| self.insert_run(set, family, below))
            }
            (Some(below), None) => {
                self.delete_run(set, family, run.last)?;
                self.insert_run(set, family, below)
            }
        }
    }

    /// Adds an address to the free ranges, and joins it with its neighbours.
    pub fn give(&self, set: &PoolSet, address: IpAddr) -> Result<()> {
        let (family, number) = (Family::of(address), number(address));
        let near = self.runs_from(set, number.saturating_sub(1), 2)?;
        let mut run = AddressRange { first: number, last: number };
        if let Some(below) = near.iter().find(|below| below.last < number) {
            self.delete_run(set, family, below.last)?;
            run.first = below.first;
        }
        if let Some(above) = near.iter().find(|above| Some(above.first) == number.checked_add(1)) {
            run.last = above.last;
            return self.set_run_first(set, family, run);
        }
        self.insert_run(set, family, run)
    }

    /// The first range that ends at `number` or above.
    fn run_from(&self, set: &PoolSet, number: u128) -> Result<Option<AddressRange>> {
        Ok(self.runs_from(set, number, 1)?.into_iter().next())
    }

    /// The first `most` ranges that end at `number` or above.
    fn runs_from(&self, set: &PoolSet, number: u128, most: usize) -> Result<Vec<AddressRange>> {
        let read = |number, most: usize| {
            let from = Key::new(set.subnet.family(), number);
            let runs = "SELECT first, last FROM free_range WHERE set_id = ?1 AND last >= ?2 ORDER BY last LIMIT ?3";
            self.all(runs, params![set.id, from, i64::try_from(most)?], range)
        };
        let look = |runs: &Runs| runs.range(number..).take(most).map(|(_, run)| *run).collect();
        match self.memory.runs(set.id, || read(set.subnet.range().first, FEW + 1), look)? {
            Some(known) if cfg!(debug_assertions) => same(known, read(number, most)?),
            Some(known) => Ok(known),
            None => read(number, most),
        }
    }

    fn insert_run(&self, set: &PoolSet, family: Family, run: AddressRange) -> Result<()> {
        self.change(
            "INSERT INTO free_range (set_id, first, last) VALUES (?1, ?2, ?3)",
            params![set.id, Key::new(family, run.first), Key::new(family, run.last)],
        )?;
        self.keep_run(set, run);
        Ok(())
    }

    fn keep_run(&self, set: &PoolSet, run: AddressRange) {
        self.memory.change_runs(set.id, |runs| runs.insert(run.last, run));
    }

    fn set_run_first(&self, set: &PoolSet, family: Family, run: AddressRange) -> Result<()> {
        self.change(
            "UPDATE free_range SET first = ?2 WHERE set_id = ?1 AND last = ?3",
            params![set.id, Key::new(family, run.first), Key::new(family, run.last)],
        )?;
        self.keep_run(set, run);
        Ok(())
    }

    fn delete_run(&self, set: &PoolSet, family: Family, last: u128) -> Result<()> {
        self.change("DELETE FROM free_range WHERE set_id = ?1 AND last = ?2", params![set.id, Key::new(family, last)])?;
        self.memory.change_runs(set.id, |runs| runs.remove(&last));
        Ok(())
    }

    /// Checks that the free ranges and the allocated addresses of each set are a partition of it.
    ///
    /// # Errors
    /// The first inconsistency.
    pub fn check_addresses(&self) -> Result<()> {
        let sets = self.all("SELECT id, subnet FROM pool_set", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Text<Subnet>>(1)?.0))
        })?;
        for (id, subnet) in sets {
            let runs = self.all("SELECT first, last FROM free_range WHERE set_id = ?1 ORDER BY last", [id], range)?;
            let taken =
                self.all("SELECT key AS first, key AS last FROM address_record WHERE set_id = ?1", [id], range)?;
            check_set(subnet, &runs, taken).with_context(|| format!("addresses of {subnet}"))?;
        }
        Ok(())
    }
}

fn check_set(subnet: Subnet, runs: &[AddressRange], taken: Vec<AddressRange>) -> Result<()> {
    if runs.windows(2).any(|pair| pair[0].last.checked_add(1) == Some(pair[1].first)) {
        bail!("two free ranges are adjacent");
    }
    let mut pieces = [runs, &taken].concat();
    pieces.sort_by_key(|piece| piece.first);
    let show = |number| subnet.family().address(number);
    let mut next = Some(subnet.range().first);
    for piece in &pieces {
        let expected = next.context("addresses beyond the end")?;
        if piece.first != expected {
            bail!("{} is recorded twice, or {} is missing", show(piece.first), show(expected));
        }
        next = piece.last.checked_add(1);
    }
    if next != subnet.range().last.checked_add(1) {
        bail!("the last addresses are neither free nor allocated");
    }
    Ok(())
}
