// SPDX-License-Identifier: Apache-2.0
//! Pools that Docker has and the database has not, because it was lost or an older copy was restored.
//!
//! A PoolID describes its pool, so the record can be rebuilt, but not the allocated addresses. Until ciao-net has
//! rebuilt those from Docker's networks, such a pool grants only explicitly requested addresses.

use anyhow::{Context, Result, bail, ensure};
use ciao_common::store::{Pool, Tx};
use ciao_common::types::{PoolDescription, PoolId, Scope};

use crate::choice::same_set;

/// The pool of a PoolID that is not recorded.
///
/// # Errors
/// The pool was released, or is ambiguous.
pub(crate) fn recover(tx: &Tx<'_>, id: &PoolId) -> Result<Pool> {
    let unknown = || format!("pool {id} is unknown: it was released, or created by another ciao-ipam");
    let described = id.description().with_context(unknown)?;
    ensure!(!tx.was_released(&described)?, unknown());
    let rebuilt = alike(tx, &described)?;
    match rebuilt.as_slice() {
        [] => rebuild(tx, id, &described),
        [pool] => identify(tx, pool, id)?.with_context(unknown),
        _ => bail!(
            "pool {id} was lost with the database, and {} rebuilt pools match: create its network again",
            rebuilt.len()
        ),
    }
}

/// The pool that ciao-net has rebuilt for a PoolID that is not recorded, if it is a single one.
pub(crate) fn rebuilt(tx: &Tx<'_>, id: &PoolId) -> Result<Option<Pool>> {
    let Some(described) = id.description() else { return Ok(None) };
    if tx.was_released(&described)? {
        return Ok(None);
    }
    match alike(tx, &described)?.as_slice() {
        [pool] => identify(tx, pool, id),
        _ => Ok(None),
    }
}

/// The rebuilt pools that may be the described one.
fn alike(tx: &Tx<'_>, described: &PoolDescription) -> Result<Vec<Pool>> {
    let mut rebuilt = tx.lost_pools(described.space.scope(), described.subnet)?;
    rebuilt.retain(|pool| {
        pool.sub_pool == described.sub_pool
            && pool.serial == described.serial
            && (described.tenant.is_none() || pool.set.tenant == described.tenant)
    });
    Ok(rebuilt)
}

fn identify(tx: &Tx<'_>, pool: &Pool, id: &PoolId) -> Result<Option<Pool>> {
    log::info!("recovered pool {id} of {}", pool.set.subnet);
    tx.set_pool_id(pool, id)?;
    tx.pool_by_id(id)
}

fn rebuild(tx: &Tx<'_>, id: &PoolId, described: &PoolDescription) -> Result<Pool> {
    let (scope, tenant) = (described.space.scope(), described.tenant.as_ref());
    let same = same_set(tx, scope, tenant, described.subnet)?;
    let is_known = same.is_some();
    let set = same.map_or_else(|| tx.insert_pool_set(scope, tenant, described.subnet), Ok)?;
    // Other pools' addresses on the set are known, this one's are not. A swarm's leader requests all of them again.
    if scope == Scope::Local || !is_known {
        tx.set_incomplete(&set)?;
    }
    if scope == Scope::Global {
        tx.record_set_request(&set, true)?;
    }
    log::warn!("pool {id} was lost with the database: rebuilt, without its allocated addresses");
    tx.insert_pool_as(&set, id, &described.space, described.sub_pool, described.serial)
}

/// The error for a dynamic request to an incomplete pool.
pub(crate) fn incomplete(pool: &Pool) -> String {
    let remedy = match pool.set.scope {
        Scope::Local => "run \"ciao-net reconcile --docker\"",
        Scope::Global => "restart the engine of the swarm's leader, which requests every address again",
    };
    format!("pool {} was lost with the database, and its allocated addresses are not known: {remedy}", pool.set.subnet)
}
