//! `RequestPool` and `ReleasePool`: which set of addresses a request means.
//!
//! A tenant's pools never overlap: the same subnet is the same set of addresses, however many pools (sub-pools) are
//! on it. A pool that names no tenant gets a set of its own each time, so two networks of two users may have the same
//! subnet on one host without knowing of each other.

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::Empty;
use ciao_common::api::ipam::{PoolReply, ReleasePool, RequestPool};
use ciao_common::store::{PoolSet, Scope, Tx};
use ciao_common::types::{Family, Subnet, TenantId};

use crate::Ipam;
use crate::options::{DefaultPool, PoolOptions};
use crate::range::first_gap;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// This subnet.
    Exactly(Subnet),
    /// Any of this size (`0.0.0.0/24`; engine 28 and newer).
    OfSize(Family, u8),
    /// Any.
    Any(Family),
}

impl Wanted {
    fn of(request: &RequestPool) -> Result<Self> {
        let family = if request.v6 { Family::V6 } else { Family::V4 };
        let Some(pool) = request.pool else {
            if let Some(sub_pool) = request.sub_pool {
                bail!("sub-pool {sub_pool} needs a pool: give --subnet with --ip-range");
            }
            return Ok(Self::Any(family));
        };
        ensure!(pool.family() == family, "pool {pool} is {}, but an {family} pool is asked for", pool.family());
        if let Some(sub_pool) = request.sub_pool {
            ensure!(
                pool.covers(sub_pool),
                "sub-pool {sub_pool} is not inside pool {pool}: give an --ip-range within --subnet"
            );
        }
        if pool.network().is_unspecified() && pool.prefix() > 0 {
            ensure!(request.sub_pool.is_none(), "a sub-pool needs a pool with an address, not {pool}");
            return Ok(Self::OfSize(family, pool.prefix()));
        }
        Ok(Self::Exactly(pool))
    }
}

impl Ipam {
    /// `IpamDriver.RequestPool`: grants a pool, or a reference more to the same one.
    ///
    /// # Errors
    /// What is asked for makes no sense, overlaps another pool of the tenant, or the default pools are used up.
    pub fn request_pool(&self, request: RequestPool) -> Result<PoolReply> {
        let space = request.address_space.as_str();
        let scope = if space.is_empty() { Ok(Scope::Local) } else { space.parse() };
        let scope = scope.with_context(|| format!("unknown address space {space:?}"))?;
        let options = PoolOptions::parse(&request.options)?;
        let wanted = Wanted::of(&request)?;
        let default_pools = self.config.default_pools.clone();
        self.store.write(move |tx| {
            let tenant = options.tenant.as_ref();
            let set = match wanted {
                Wanted::Exactly(subnet) => exact_set(tx, scope, tenant, subnet)?,
                Wanted::OfSize(family, size) => free_set(tx, scope, tenant, family, &resized(&default_pools, size))?,
                Wanted::Any(family) => free_set(tx, scope, tenant, family, &default_pools)?,
            };
            let pool = match tx.pool_alike(&set, request.sub_pool, options.serial)? {
                Some(pool) => {
                    tx.add_pool_ref(&pool)?;
                    pool
                }
                None => tx.insert_pool(&set, request.sub_pool, options.serial)?,
            };
            Ok(PoolReply { pool_id: pool.pool_id, pool: set.subnet, data: Default::default() })
        })
    }

    /// `IpamDriver.ReleasePool`: takes a reference back; with the last one the pool goes and what was still held of
    /// it is free, because after a failed `network create` the engine releases the pool alone.
    ///
    /// # Errors
    /// The disk's. An unknown pool is none: the engine would forget the pool in any case.
    pub fn release_pool(&self, request: ReleasePool) -> Result<Empty> {
        self.store.write(move |tx| {
            let Some(pool) = tx.pool_by_id(&request.pool_id)? else {
                log::info!("pool {} is unknown: nothing to release", request.pool_id);
                return Ok(Empty {});
            };
            if pool.refs > 1 {
                tx.drop_pool_refs(&pool, 1)?;
                return Ok(Empty {});
            }
            let leases = tx.delete_pool(&pool)?;
            if leases > 0 {
                log::info!(
                    "pool {} ({}) is released with {leases} leases, which are free now",
                    pool.pool_id,
                    pool.set.subnet
                );
            }
            Ok(Empty {})
        })
    }
}

/// The set with that subnet: the tenant's, or a new one.
fn exact_set(tx: &Tx<'_>, scope: Scope, tenant: Option<&TenantId>, subnet: Subnet) -> Result<PoolSet> {
    if let Some(tenant) = tenant {
        let touching = tx.pool_sets_touching(scope, Some(tenant), subnet)?;
        if let Some(same) = touching.iter().find(|set| set.subnet == subnet) {
            return Ok(same.clone());
        }
        if let Some(other) = touching.first() {
            bail!(
                "pool {subnet} overlaps pool {} of tenant {tenant}: give another subnet, or another tenant",
                other.subnet
            );
        }
    }
    tx.insert_pool_set(scope, tenant, subnet)
}

/// A new set out of the default pools, apart from every pool of that tenant (or of those who named none).
fn free_set(
    tx: &Tx<'_>,
    scope: Scope,
    tenant: Option<&TenantId>,
    family: Family,
    pools: &[DefaultPool],
) -> Result<PoolSet> {
    for pool in pools.iter().filter(|pool| pool.base().family() == family) {
        let touching = tx.pool_sets_touching(scope, tenant, pool.base())?;
        let taken: Vec<_> = touching.iter().map(|set| set.subnet.range()).collect();
        if let Some(subnet) = first_gap(pool.base(), pool.size(), &taken) {
            return tx.insert_pool_set(scope, tenant, subnet);
        }
    }
    bail!("all {family} default pools are used up: name a --subnet, or give ciao-ipam more with --default-pool")
}

/// The default pools cut to another size, as far as they are large enough.
fn resized(pools: &[DefaultPool], size: u8) -> Vec<DefaultPool> {
    pools.iter().filter_map(|pool| DefaultPool::new(pool.base(), size).ok()).collect()
}
