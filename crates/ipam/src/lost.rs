// SPDX-License-Identifier: Apache-2.0
//! Pools that Docker knows and no record does, because the database was lost or an older copy of it was restored.
//!
//! A PoolID describes its pool, so the record can be made again. Which addresses containers have cannot be read from it:
//! until ciao-net has rebuilt the records from Docker's list, such a pool grants what is asked for by name alone.

use anyhow::{Context, Result, bail, ensure};
use ciao_common::store::{Pool, Tx};
use ciao_common::types::{PoolDescription, PoolId, Scope};

use crate::choice::same_set;

/// The pool of a PoolID that is not recorded.
///
/// # Errors
/// It was released, or it cannot be told which one it is. The disk's.
pub(crate) fn found_again(tx: &Tx<'_>, id: &PoolId) -> Result<Pool> {
    let unknown = || format!("pool {id} is unknown: it was released, or another ciao-ipam made it");
    let described = id.description().with_context(unknown)?;
    ensure!(!tx.was_released(&described)?, unknown());
    let alike = |pool: &Pool| {
        pool.sub_pool == described.sub_pool
            && pool.serial == described.serial
            && (described.tenant.is_none() || pool.set.tenant == described.tenant)
    };
    let mut rebuilt = tx.lost_pools(described.space.scope(), described.subnet)?;
    rebuilt.retain(alike);
    match rebuilt.as_slice() {
        [] => made_again(tx, id, &described),
        [pool] => {
            log::info!("pool {} of {} is known again", id, described.subnet);
            tx.set_pool_id(pool, id)?;
            tx.pool_by_id(id)?.with_context(unknown)
        }
        _ => bail!(
            "pool {id} was lost with the database, and {} rebuilt pools may be it: create its network again",
            rebuilt.len()
        ),
    }
}

fn made_again(tx: &Tx<'_>, id: &PoolId, described: &PoolDescription) -> Result<Pool> {
    let (scope, tenant) = (described.space.scope(), described.tenant.as_ref());
    let set = match same_set(tx, scope, tenant, described.subnet)? {
        Some(set) => set,
        None => {
            let set = tx.insert_pool_set(scope, tenant, described.subnet)?;
            tx.set_incomplete(&set, true)?;
            set
        }
    };
    if scope == Scope::Global {
        tx.ask_for_set(&set, true)?;
    }
    log::warn!("pool {id} was lost with the database: recorded again, without its addresses");
    tx.insert_pool_as(&set, id, &described.space, described.sub_pool, described.serial)
}

/// Why a pool grants no address that is not named.
pub(crate) fn incomplete(pool: &Pool) -> String {
    let remedy = match pool.set.scope {
        Scope::Local => "run \"ciao-net reconcile --docker\"",
        Scope::Global => "restart the engine of the swarm's leader, which requests every address again",
    };
    format!(
        "pool {} was lost with the database, and which of its addresses are in use is not known: {remedy}",
        pool.set.subnet
    )
}
