// SPDX-License-Identifier: Apache-2.0
//! `RequestPool` and `ReleasePool`: which set of addresses a request means.
//!
//! A tenant's pools never overlap: the same subnet is the same set of addresses, however many pools (sub-pools) are
//! on it. A pool that names no tenant gets a set of its own each time, so two networks of two users may have the same
//! subnet on one host without knowing of each other.

use std::sync::Arc;

use anyhow::{Context, Result};
use ciao_common::api::Empty;
use ciao_common::api::ipam::{PoolReply, ReleasePool, RequestPool};
use ciao_common::store::{Answer, Pool, Tx};
use ciao_common::types::{AddressSpace, PoolId, Scope};

use crate::choice::{Wanted, wanted_set};
use crate::options::PoolOptions;
use crate::{Ipam, term};

impl Ipam {
    /// `IpamDriver.RequestPool`: grants a pool, or a reference more to the same one.
    ///
    /// # Errors
    /// What is asked for makes no sense, overlaps another pool of the tenant, or the default pools are used up.
    pub fn request_pool(&self, request: RequestPool) -> Answer<PoolReply> {
        let (config, hints) = (self.config.clone(), Arc::clone(&self.hints));
        self.store.begin_while_awaited(move |tx| {
            let text = request.address_space.as_str();
            let space = if text.is_empty() { Ok(AddressSpace::of(Scope::Local)) } else { text.parse() };
            let space = space.with_context(|| format!("unknown address space {text:?}"))?;
            let options = PoolOptions::parse(&request.options)?;
            let wanted = Wanted::of(&request)?;
            let set = match space.scope() {
                Scope::Global => term::set(tx, &config, &hints, &options, wanted)?,
                Scope::Local => wanted_set(tx, &config, &hints, Scope::Local, options.tenant.as_ref(), wanted)?.0,
            };
            // On a swarm's leader serial is a request's property: a restore has it, and the first request has not.
            let serial = Some(options.serial).filter(|_| !set.is_global());
            let pool = match tx.pool_alike(&set, request.sub_pool, serial)? {
                Some(pool) => {
                    tx.add_pool_ref(&pool, &space)?;
                    pool
                }
                None => tx.insert_pool(&set, &space, options.tenant.as_ref(), request.sub_pool, options.serial)?,
            };
            Ok(PoolReply { pool_id: pool.pool_id, pool: set.subnet, data: Default::default() })
        })
    }

    /// `IpamDriver.ReleasePool`: takes a reference back; with the last one the pool goes and what was still held of
    /// it is free, because after a failed `network create` the engine releases the pool alone.
    ///
    /// # Errors
    /// The disk's. An unknown pool is none: the engine would forget the pool in any case.
    pub fn release_pool(&self, request: ReleasePool) -> Answer<Empty> {
        let hints = Arc::clone(&self.hints);
        self.store.begin(move |tx| {
            let Some(pool) = known(tx, &request.pool_id)? else {
                log::info!("pool {:?} is unknown: nothing to release", request.pool_id);
                return Ok(Empty {});
            };
            let Some(pool) = term::to_release(tx, pool)? else { return Ok(Empty {}) };
            if pool.refs > 1 {
                tx.drop_pool_refs(&pool, 1)?;
                return Ok(Empty {});
            }
            let leases = tx.delete_pool(&pool)?;
            hints.lower(pool.set.scope, pool.set.tenant.as_ref(), pool.set.subnet);
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

/// The recorded pool of a PoolID that may be anything.
pub(crate) fn known(tx: &Tx<'_>, id: &str) -> Result<Option<Pool>> {
    match id.parse::<PoolId>() {
        Ok(id) => tx.pool_by_id(&id),
        Err(_) => Ok(None),
    }
}
