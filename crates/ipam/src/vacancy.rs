// SPDX-License-Identifier: Apache-2.0
//! The subnet of a pool requested without one: the lowest free one of the default pools.
//!
//! A hint keeps the start of the search, so that its cost does not grow with the number of pools. The hint may be too
//! high after a change by another process: if nothing is found, the search is repeated from the beginning.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Result, bail};
use ciao_common::store::Tx;
use ciao_common::sync::lock;
use ciao_common::types::{AddressRange, Family, Scope, Subnet, TenantId};

use crate::options::DefaultPool;

/// Maximum number of tenants with hints.
const MOST: usize = 10_000;

/// Scope and tenant of a pool.
type PoolOwner = (Scope, Option<TenantId>);

/// The address below which a default pool is used up, by owner and default pool.
#[derive(Default)]
pub(crate) struct Hints(Mutex<BTreeMap<PoolOwner, BTreeMap<DefaultPool, u128>>>);

impl Hints {
    fn get(&self, owner: &PoolOwner, pool: DefaultPool) -> u128 {
        lock(&self.0).get(owner).and_then(|hints| hints.get(&pool)).copied().unwrap_or(0)
    }

    fn set(&self, owner: PoolOwner, pool: DefaultPool, lowest: u128) {
        let mut hints = lock(&self.0);
        if hints.len() >= MOST {
            hints.clear();
        }
        hints.entry(owner).or_default().insert(pool, lowest);
    }

    /// To be called when a pool was deleted: its subnet is free for its tenant, and for requests without tenant.
    pub(crate) fn lower(&self, scope: Scope, tenant: Option<&TenantId>, subnet: Subnet) {
        let mut hints = lock(&self.0);
        for owner in [tenant.cloned(), None] {
            for (pool, lowest) in hints.get_mut(&(scope, owner)).into_iter().flatten() {
                if pool.base().overlaps(subnet) {
                    *lowest = (*lowest).min(subnet.range().first);
                }
            }
        }
    }
}

/// A free subnet of the default pools, or one of prefix length `size` in those that are large enough.
///
/// # Errors
/// None is free.
pub(crate) fn find(
    tx: &Tx<'_>,
    hints: &Hints,
    (scope, tenant): (Scope, Option<&TenantId>),
    (family, size): (Family, Option<u8>),
    pools: &[DefaultPool],
) -> Result<Subnet> {
    let pools: Vec<_> = pools.iter().filter(|pool| pool.base().family() == family).copied().collect();
    let resized: Vec<_> = match size {
        Some(size) => pools.iter().filter_map(|pool| DefaultPool::new(pool.base(), size).ok()).collect(),
        None => pools.clone(),
    };
    if let (Some(size), true, Some(largest)) =
        (size, resized.is_empty(), pools.iter().map(|pool| pool.base().prefix()).min())
    {
        bail!(
            "no {family} default pool is as large as a /{size}, the largest is a /{largest}: name a --subnet, or give \
             ciao-ipam a larger one with --default-pool"
        );
    }
    let owner = (scope, tenant.cloned());
    let launchers = if scope == Scope::Local { tx.subnets_of_launchers(tenant)? } else { Vec::new() };
    for pool in resized {
        let bottom = pool.base().range().first;
        let start = hints.get(&owner, pool).max(bottom);
        let mut found = lowest(tx, (scope, tenant), pool, start, &launchers)?;
        if found.is_none() && start > bottom {
            found = lowest(tx, (scope, tenant), pool, bottom, &launchers)?;
        }
        hints.set(owner.clone(), pool, found.map_or(u128::MAX, |subnet| subnet.range().last.saturating_add(1)));
        if let Some(subnet) = found {
            return Ok(subnet);
        }
    }
    bail!("all {family} default pools are used up: name a --subnet, or give ciao-ipam more with --default-pool")
}

/// The lowest free subnet from `start`.
fn lowest(
    tx: &Tx<'_>,
    (scope, tenant): (Scope, Option<&TenantId>),
    pool: DefaultPool,
    start: u128,
    launchers: &[Subnet],
) -> Result<Option<Subnet>> {
    let family = pool.base().family();
    let mut next = Some(start);
    loop {
        let Some(candidate) = next.and_then(|start| pool.first_from(start)) else { return Ok(None) };
        let vnics = launchers.iter().find(|subnet| subnet.family() == family && subnet.overlaps(candidate));
        let obstacle = match vnics {
            Some(subnet) => Some(subnet.range()),
            None => tx.obstacle(scope, tenant, candidate)?,
        };
        match obstacle {
            None => return Ok(Some(candidate)),
            Some(AddressRange { last, .. }) => next = last.max(candidate.range().last).checked_add(1),
        }
    }
}
