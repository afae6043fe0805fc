// SPDX-License-Identifier: Apache-2.0
//! `RequestPool` and `ReleasePool`: the allocation of pools.
//!
//! A tenant's sets never overlap: the same subnet is the same set of addresses, with any number of pools (sub-pools). A
//! pool without a tenant always gets a set of its own, so networks of different users may have the same subnet.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use ciao_common::api::Empty;
use ciao_common::api::ipam::{PoolReply, ReleasePool, RequestPool};
use ciao_common::store::{Answer, Pool, Tx};
use ciao_common::types::{AddressSpace, PoolId, Scope};

use crate::choice::{SubnetRequest, requested_set};
use crate::options::PoolOptions;
use crate::{Ipam, lost, term};

impl Ipam {
    /// `IpamDriver.RequestPool`: grants a pool, or one more reference to an existing one.
    ///
    /// # Errors
    /// An invalid request, an overlap with another pool of the tenant, or no default pool left.
    pub fn request_pool(&self, request: RequestPool) -> Answer<PoolReply> {
        let (config, hints, leadership) = (self.config.clone(), Arc::clone(&self.hints), Arc::clone(&self.leadership));
        self.store.begin_while_awaited(move |tx| {
            let text = request.address_space.as_str();
            let space = if text.is_empty() { Ok(AddressSpace::of(Scope::Local)) } else { text.parse() };
            let space = space.with_context(|| format!("unknown address space {text:?}"))?;
            let options = PoolOptions::parse(&request.options)?;
            let subnet = SubnetRequest::of(&request)?;
            let set = match space.scope() {
                Scope::Global => {
                    tx.raise_leadership(leadership.load(Ordering::Acquire))?;
                    term::set(tx, &config, &hints, &options, subnet)?
                }
                Scope::Local => requested_set(tx, &config, &hints, Scope::Local, options.tenant.as_ref(), subnet)?.0,
            };
            // On a swarm's leader, the serial option belongs to the request: a restore has it, the first request does
            // not.
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

    /// `IpamDriver.ReleasePool`: releases a reference; with the last one, the pool and all its addresses, because after
    /// a failed `network create` the engine releases only the pool. An unknown pool is not an error: the engine would
    /// forget it in any case.
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
                log::info!("released pool {} ({}) and its {leases} leases", pool.pool_id, pool.set.subnet);
            }
            Ok(Empty {})
        })
    }
}

/// The recorded pool of an arbitrary text; one that was lost and rebuilt is recorded under another PoolID.
pub(crate) fn known(tx: &Tx<'_>, id: &str) -> Result<Option<Pool>> {
    let Ok(id) = id.parse::<PoolId>() else { return Ok(None) };
    match tx.pool_by_id(&id)? {
        Some(pool) => Ok(Some(pool)),
        None => {
            tx.guard()?;
            lost::rebuilt(tx, &id)
        }
    }
}
