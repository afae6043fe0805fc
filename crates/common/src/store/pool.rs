// SPDX-License-Identifier: Apache-2.0
//! Table `pool_record`: the pools that Docker has requested, each on a set of addresses.

use std::net::IpAddr;

use anyhow::{Context, Result};
use rusqlite::{Row, params};

use super::value::{Key, Text, get, get_optional};
use super::{PoolSet, Tx};
use crate::types::{AddressSpace, PoolDescription, PoolId, Scope, Subnet, TenantId};

/// A pool, known to Docker by its PoolID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Row id.
    pub id: i64,
    /// The PoolID.
    pub pool_id: PoolId,
    /// The set of addresses.
    pub set: PoolSet,
    /// The range of dynamic addresses, if not the whole subnet.
    pub sub_pool: Option<Subnet>,
    /// Whether dynamic addresses are allocated in ascending order.
    pub serial: bool,
    /// The last address allocated that way, as a number.
    pub cursor: Option<u128>,
    /// Reference count: requests that were not released.
    pub refs: i64,
    /// Nonce of the address space of the last request.
    pub nonce: String,
    /// Time of creation, in milliseconds since 1970.
    pub created: i64,
    /// Time of the last request.
    pub requested: i64,
    /// The leadership of a global set.
    pub term: i64,
    /// Whether a new leader is restoring the set.
    pub restoring: bool,
    /// Whether the set was rebuilt from a PoolID, so that its allocated addresses are not known.
    pub incomplete: bool,
}

pub(super) const POOL: &str =
    "SELECT p.id, p.pool_id, p.set_id, p.sub_pool, p.serial, p.cursor, p.refs, p.nonce, p.created, p.requested,
            s.scope, s.tenant, s.subnet, s.term, s.restoring IS NOT NULL AS restoring, s.incomplete
     FROM pool_record p JOIN pool_set s ON s.id = p.set_id";

/// A row of [`POOL`]. Every lease reads one: a column's name costs some 500 instructions, its number none.
pub(super) fn pool(row: &Row<'_>) -> rusqlite::Result<Pool> {
    let is_whole = row.get_ref(3)?.as_str()?.is_empty();
    Ok(Pool {
        id: row.get(0)?,
        pool_id: get(row, 1)?,
        set: PoolSet { id: row.get(2)?, scope: get(row, 10)?, tenant: get_optional(row, 11)?, subnet: get(row, 12)? },
        sub_pool: if is_whole { None } else { Some(get(row, 3)?) },
        serial: row.get(4)?,
        cursor: row.get::<_, Option<Key>>(5)?.map(Key::number),
        refs: row.get(6)?,
        nonce: row.get(7)?,
        created: row.get(8)?,
        requested: row.get(9)?,
        term: row.get(13)?,
        restoring: row.get(14)?,
        incomplete: row.get(15)?,
    })
}

impl Tx<'_> {
    /// The pool with that PoolID.
    pub fn pool_by_id(&self, id: &PoolId) -> Result<Option<Pool>> {
        let read = || self.first(&format!("{POOL} WHERE p.pool_id = ?1"), [Text(id)], pool);
        self.memory.pool(id.as_str(), read)
    }

    /// The oldest pool on a set with that sub-pool and, if given, that order.
    pub fn pool_alike(&self, set: &PoolSet, sub_pool: Option<Subnet>, serial: Option<bool>) -> Result<Option<Pool>> {
        let sub_pool = sub_pool.map_or_else(String::new, |s| s.to_string());
        self.first(
            &format!(
                "{POOL} WHERE p.set_id = ?1 AND p.sub_pool = ?2 AND (?3 IS NULL OR p.serial = ?3) ORDER BY p.id LIMIT 1"
            ),
            params![set.id, sub_pool, serial],
            pool,
        )
    }

    /// The pools on a set, oldest first.
    pub fn pools_of_set(&self, set: &PoolSet) -> Result<Vec<Pool>> {
        self.all(&format!("{POOL} WHERE p.set_id = ?1 ORDER BY p.id"), [set.id], pool)
    }

    /// Creates a pool on a set, with reference count 1. `space` and `tenant` are those of the request.
    pub fn insert_pool(
        &self,
        set: &PoolSet,
        space: &AddressSpace,
        tenant: Option<&TenantId>,
        sub_pool: Option<Subnet>,
        serial: bool,
    ) -> Result<Pool> {
        let described = PoolDescription {
            space: space.clone(),
            subnet: set.subnet,
            sub_pool,
            serial,
            tenant: tenant.cloned(),
            database: self.database()?,
            row: self.last_pool_row()? + 1,
        };
        self.insert_pool_as(set, &PoolId::describing(&described), space, sub_pool, serial)
    }

    /// The highest row id that a pool of this database ever had.
    pub fn last_pool_row(&self) -> Result<i64> {
        let last = self.first("SELECT seq FROM sqlite_sequence WHERE name = 'pool_record'", [], |row| row.get(0))?;
        Ok(last.unwrap_or(0))
    }

    /// The pools of that subnet whose PoolID was lost.
    pub fn lost_pools(&self, scope: Scope, subnet: Subnet) -> Result<Vec<Pool>> {
        let pools = self.all(
            &format!("{POOL} WHERE s.scope = ?1 AND s.subnet = ?2 ORDER BY p.id"),
            params![Text(scope), Text(subnet)],
            pool,
        )?;
        Ok(pools.into_iter().filter(|pool| pool.pool_id.is_lost()).collect())
    }

    /// Creates a pool with an existing PoolID on a set, with reference count 1.
    ///
    /// # Errors
    /// Another pool has the id.
    pub fn insert_pool_as(
        &self,
        set: &PoolSet,
        id: &PoolId,
        space: &AddressSpace,
        sub_pool: Option<Subnet>,
        serial: bool,
    ) -> Result<Pool> {
        self.change(
            "INSERT INTO pool_record (pool_id, set_id, sub_pool, serial, nonce, created, requested) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
            params![Text(id), set.id, sub_pool.map_or_else(String::new, |s| s.to_string()), serial, space.nonce(), self.now()],
        )?;
        self.pool_by_id(id)?.context("internal error (please report): the new pool is missing")
    }

    /// Records the PoolID of a pool whose PoolID was lost.
    ///
    /// # Errors
    /// Another pool has the id.
    pub fn set_pool_id(&self, pool: &Pool, id: &PoolId) -> Result<()> {
        self.change("UPDATE network_subnet SET pool = ?2 WHERE pool = ?1", params![Text(&pool.pool_id), Text(id)])?;
        self.change("UPDATE pool_record SET pool_id = ?2 WHERE id = ?1", params![pool.id, Text(id)])
    }

    /// Adds a reference for a request in `space`.
    pub fn add_pool_ref(&self, pool: &Pool, space: &AddressSpace) -> Result<()> {
        self.change(
            "UPDATE pool_record SET refs = refs + 1, nonce = ?3, requested = max(requested, ?2) WHERE id = ?1",
            params![pool.id, self.now(), space.nonce()],
        )
    }

    /// Removes references.
    ///
    /// # Errors
    /// The count would be negative.
    pub fn drop_pool_refs(&self, pool: &Pool, less: i64) -> Result<()> {
        self.note_release(pool.set.subnet)?;
        self.change("UPDATE pool_record SET refs = refs - ?2 WHERE id = ?1", params![pool.id, less])
    }

    /// Records the last address allocated in ascending order.
    pub fn set_pool_cursor(&self, pool: &Pool, address: IpAddr) -> Result<()> {
        self.change("UPDATE pool_record SET cursor = ?2 WHERE id = ?1", params![pool.id, Key::of(address)])
    }

    /// Deletes a pool and releases its leases; with the last pool of a set, also the set. Gateways, which networks on
    /// other pools may share, stay until then. Returns the number of leases released.
    pub fn delete_pool(&self, pool: &Pool) -> Result<usize> {
        self.note_release(pool.set.subnet)?;
        let leases = self.leases_of_pool(pool)?;
        self.change("DELETE FROM pool_record WHERE id = ?1", [pool.id])?;
        let heir =
            self.first("SELECT id FROM pool_record WHERE set_id = ?1", [pool.set.id], |row| row.get::<_, i64>(0))?;
        let Some(heir) = heir else {
            for number in &leases {
                self.record_lease("release", &pool.set, pool.set.subnet.family().address(*number))?;
            }
            self.change("DELETE FROM pool_set WHERE id = ?1", [pool.set.id])?;
            return Ok(leases.len());
        };
        for number in &leases {
            let address = pool.set.subnet.family().address(*number);
            self.delete_address(&pool.set, address)?;
            self.give(&pool.set, address)?;
        }
        self.change(
            "UPDATE address_record SET pool = ?3 WHERE set_id = ?1 AND pool = ?2",
            params![pool.set.id, pool.id, heir],
        )?;
        Ok(leases.len())
    }

    /// The pools last requested before a time, in milliseconds since 1970.
    pub fn pools_requested_before(&self, time: i64) -> Result<Vec<Pool>> {
        self.all(&format!("{POOL} WHERE p.created < ?1 AND p.requested < ?1 ORDER BY p.id"), [time], pool)
    }
}
