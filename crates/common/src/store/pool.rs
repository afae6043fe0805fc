// SPDX-License-Identifier: Apache-2.0
//! Tables `pool_set` and `pool_record`: the set of addresses of a tenant's subnet, and the pools on it.

use anyhow::{Context, Result};
use rusqlite::{Row, params};
use serde::Serialize;

use super::value::{Key, Text, get, get_optional, text};
use super::{Tx, now};
use crate::types::{AddressSpace, PoolDescription, PoolId, Scope, Subnet, TenantId};

/// A set of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSet {
    /// Row id.
    pub id: i64,
    /// The scope.
    pub scope: Scope,
    /// The tenant; `None`: isolated from all other sets.
    pub tenant: Option<TenantId>,
    /// All addresses.
    pub subnet: Subnet,
}

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

/// A row of view `pool`.
#[derive(Clone, Debug, Serialize)]
pub struct PoolRow {
    /// The tenant.
    pub tenant: Option<TenantId>,
    /// All addresses.
    pub subnet: Subnet,
    /// The range of dynamic addresses.
    pub sub_pool: Option<Subnet>,
    /// `local` or `global`.
    pub space: String,
    /// Ids of Docker's networks, twelve characters each.
    pub networks: Option<String>,
    /// Reference count.
    pub refs: i64,
    /// Number of granted addresses.
    pub leases: i64,
    /// The PoolID.
    pub pool_id: PoolId,
    /// UTC.
    pub created: String,
}

const POOL: &str =
    "SELECT p.id, p.pool_id, p.set_id, p.sub_pool, p.serial, p.cursor, p.refs, p.nonce, p.created, p.requested,
            s.scope, s.tenant, s.subnet, s.term, s.restoring IS NOT NULL AS restoring, s.incomplete
     FROM pool_record p JOIN pool_set s ON s.id = p.set_id";

pub(super) fn pool_set(row: &Row<'_>, id: &str) -> rusqlite::Result<PoolSet> {
    Ok(PoolSet {
        id: row.get(id)?,
        scope: get(row, "scope")?,
        tenant: get_optional(row, "tenant")?,
        subnet: get(row, "subnet")?,
    })
}

fn sub_pool(row: &Row<'_>) -> rusqlite::Result<Option<Subnet>> {
    let whole = row.get_ref("sub_pool")?.as_str()?.is_empty();
    if whole { Ok(None) } else { get(row, "sub_pool").map(Some) }
}

fn pool(row: &Row<'_>) -> rusqlite::Result<Pool> {
    Ok(Pool {
        id: row.get("id")?,
        pool_id: get(row, "pool_id")?,
        set: pool_set(row, "set_id")?,
        sub_pool: sub_pool(row)?,
        serial: row.get("serial")?,
        cursor: row.get::<_, Option<Key>>("cursor")?.map(Key::number),
        refs: row.get("refs")?,
        nonce: row.get("nonce")?,
        created: row.get("created")?,
        requested: row.get("requested")?,
        term: row.get("term")?,
        restoring: row.get("restoring")?,
        incomplete: row.get("incomplete")?,
    })
}

impl Tx<'_> {
    /// The pool with that PoolID.
    pub fn pool_by_id(&self, id: &PoolId) -> Result<Option<Pool>> {
        self.first(&format!("{POOL} WHERE p.pool_id = ?1"), [Text(id)], pool)
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

    /// The pools of that subnet with more references than networks of ciao-net, newest request first; those without
    /// tenant only if their set has no network.
    pub fn pools_without_network(&self, scope: Scope, subnet: Subnet) -> Result<Vec<Pool>> {
        self.all(
            &format!(
                "{POOL} WHERE s.scope = ?1 AND s.subnet = ?2
                 AND (SELECT count(*) FROM network_subnet n WHERE n.set_id = s.id AND (n.pool IS NULL OR n.pool = p.pool_id)) < p.refs
                 AND (s.tenant IS NOT NULL OR NOT EXISTS (SELECT 1 FROM network_subnet n WHERE n.set_id = s.id))
                 ORDER BY p.requested DESC, p.id DESC"
            ),
            params![Text(scope), Text(subnet)],
            pool,
        )
    }

    /// The set of a tenant with that subnet.
    pub fn pool_set_of(&self, scope: Scope, tenant: &TenantId, subnet: Subnet) -> Result<Option<PoolSet>> {
        self.first(
            "SELECT id, scope, tenant, subnet FROM pool_set WHERE scope = ?1 AND tenant = ?2 AND subnet = ?3",
            params![Text(scope), Text(tenant), Text(subnet)],
            |row| pool_set(row, "id"),
        )
    }

    /// The sets of a tenant (`None`: those without tenant) that overlap `subnet`, lowest end first.
    pub fn pool_sets_touching(&self, scope: Scope, tenant: Option<&TenantId>, subnet: Subnet) -> Result<Vec<PoolSet>> {
        let (range, family) = (subnet.range(), subnet.family());
        self.all(
            "SELECT id, scope, tenant, subnet FROM pool_set
             WHERE scope = ?1 AND tenant IS ?2 AND last >= ?3 AND first <= ?4 AND length(first) = length(?3) ORDER BY last",
            params![Text(scope), text(tenant), Key::new(family, range.first), Key::new(family, range.last)],
            |row| pool_set(row, "id"),
        )
    }

    /// Creates a set with all addresses free.
    pub fn insert_pool_set(&self, scope: Scope, tenant: Option<&TenantId>, subnet: Subnet) -> Result<PoolSet> {
        let (range, family) = (subnet.range(), subnet.family());
        let (first, last) = (Key::new(family, range.first), Key::new(family, range.last));
        self.change(
            "INSERT INTO pool_set (scope, tenant, subnet, first, last) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![Text(scope), text(tenant), Text(subnet), first, last],
        )?;
        let id = self.conn.last_insert_rowid();
        self.change("INSERT INTO free_range (set_id, first, last) VALUES (?1, ?2, ?3)", params![id, first, last])?;
        Ok(PoolSet { id, scope, tenant: tenant.cloned(), subnet })
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

    /// Records whether the allocated addresses of a set are unknown.
    pub fn set_incomplete(&self, set: &PoolSet, incomplete: bool) -> Result<()> {
        self.change("UPDATE pool_set SET incomplete = ?2 WHERE id = ?1", params![set.id, incomplete]).map(drop)
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
            params![Text(id), set.id, sub_pool.map_or_else(String::new, |s| s.to_string()), serial, space.nonce(), now()],
        )?;
        self.pool_by_id(id)?.context("internal error (please report): the new pool is missing")
    }

    /// Records the PoolID of a pool whose PoolID was lost.
    ///
    /// # Errors
    /// Another pool has the id.
    pub fn set_pool_id(&self, pool: &Pool, id: &PoolId) -> Result<()> {
        self.change("UPDATE network_subnet SET pool = ?2 WHERE pool = ?1", params![Text(&pool.pool_id), Text(id)])?;
        self.change("UPDATE pool_record SET pool_id = ?2 WHERE id = ?1", params![pool.id, Text(id)]).map(drop)
    }

    /// Adds a reference for a request in `space`.
    pub fn add_pool_ref(&self, pool: &Pool, space: &AddressSpace) -> Result<()> {
        self.change(
            "UPDATE pool_record SET refs = refs + 1, nonce = ?3, requested = max(requested, ?2) WHERE id = ?1",
            params![pool.id, now(), space.nonce()],
        )
        .map(drop)
    }

    /// Removes references.
    ///
    /// # Errors
    /// The count would be negative.
    pub fn drop_pool_refs(&self, pool: &Pool, less: i64) -> Result<()> {
        self.change("UPDATE pool_record SET refs = refs - ?2 WHERE id = ?1", params![pool.id, less]).map(drop)
    }

    /// Records the last address allocated in ascending order.
    pub fn set_pool_cursor(&self, pool: &Pool, number: u128) -> Result<()> {
        let cursor = Key::new(pool.set.subnet.family(), number);
        self.change("UPDATE pool_record SET cursor = ?2 WHERE id = ?1", params![pool.id, cursor]).map(drop)
    }

    /// Deletes a pool and releases its leases; with the last pool of a set, also the set. Gateways, which networks on other
    /// pools may share, stay until then. Returns the number of leases released.
    pub fn delete_pool(&self, pool: &Pool) -> Result<usize> {
        let leases = self.leases_of_pool(pool)?;
        self.change("DELETE FROM pool_record WHERE id = ?1", [pool.id])?;
        let heir =
            self.first("SELECT id FROM pool_record WHERE set_id = ?1", [pool.set.id], |row| row.get::<_, i64>(0))?;
        let Some(heir) = heir else {
            self.change("DELETE FROM pool_set WHERE id = ?1", [pool.set.id])?;
            return Ok(leases.len());
        };
        for number in &leases {
            let address = pool.set.subnet.family().address(*number);
            self.delete_address(&pool.set, address)?;
            self.give(&pool.set, address)?;
        }
        self.change("UPDATE address_record SET pool = ?2 WHERE pool = ?1", params![pool.id, heir])?;
        Ok(leases.len())
    }

    /// The pools last requested before a time, in milliseconds since 1970.
    pub fn pools_requested_before(&self, time: i64) -> Result<Vec<Pool>> {
        self.all(&format!("{POOL} WHERE p.created < ?1 AND p.requested < ?1 ORDER BY p.id"), [time], pool)
    }

    /// The sets without tenant of that subnet that have a network of ciao-net.
    pub fn own_sets_with_network(&self, subnet: Subnet) -> Result<Vec<i64>> {
        self.all(
            "SELECT DISTINCT s.id FROM pool_set s JOIN network_subnet n ON n.set_id = s.id WHERE s.tenant IS NULL AND s.subnet = ?1",
            [Text(subnet)],
            |row| row.get(0),
        )
    }

    /// The number of networks of ciao-net on a set.
    pub fn networks_on_set(&self, set: i64) -> Result<i64> {
        let count = self.first("SELECT count(*) FROM network_subnet WHERE set_id = ?1", [set], |row| row.get(0))?;
        Ok(count.unwrap_or(0))
    }

    /// All rows of view `pool`.
    pub fn pools(&self) -> Result<Vec<PoolRow>> {
        self.all(
            "SELECT tenant, subnet, sub_pool, space, networks, refs, leases, pool_id, created FROM pool",
            [],
            |row| {
                Ok(PoolRow {
                    tenant: get_optional(row, "tenant")?,
                    subnet: get(row, "subnet")?,
                    sub_pool: sub_pool(row)?,
                    space: row.get("space")?,
                    networks: row.get("networks")?,
                    refs: row.get("refs")?,
                    leases: row.get("leases")?,
                    pool_id: get(row, "pool_id")?,
                    created: row.get("created")?,
                })
            },
        )
    }
}
