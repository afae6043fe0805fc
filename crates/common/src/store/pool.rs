// SPDX-License-Identifier: Apache-2.0
//! Tables `pool_set` and `pool_record`: a subnet's one set of addresses in a tenant's space, and the pools on it.

use anyhow::{Context, Result};
use rusqlite::{Row, params};
use serde::Serialize;

use super::value::{Key, Text, get, get_optional, text};
use super::{Tx, now};
use crate::types::{AddressSpace, PoolDescription, PoolId, Scope, Subnet, TenantId};

/// One set of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSet {
    /// Its row.
    pub id: i64,
    /// The address space.
    pub scope: Scope,
    /// Whose; `None`: a space of its own.
    pub tenant: Option<TenantId>,
    /// All of its addresses.
    pub subnet: Subnet,
}

/// A pool that Docker has an id of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its row.
    pub id: i64,
    /// Docker's id.
    pub pool_id: PoolId,
    /// The addresses.
    pub set: PoolSet,
    /// Where dynamic addresses come from, if not from all of them.
    pub sub_pool: Option<Subnet>,
    /// Whether dynamic addresses come one after the other.
    pub serial: bool,
    /// The last address given that way, as a number.
    pub cursor: Option<u128>,
    /// How many requests have not been released.
    pub refs: i64,
    /// Of the local address space that it was last requested in.
    pub nonce: String,
    /// When it was made, in milliseconds since 1970.
    pub created: i64,
    /// When it was last requested.
    pub requested: i64,
    /// The leadership of a global set.
    pub term: i64,
    /// Whether a new leader is restoring the set.
    pub restoring: bool,
    /// Whether the set was made again from a PoolID: who has which address is not known.
    pub incomplete: bool,
}

/// A line of the list of pools.
#[derive(Clone, Debug, Serialize)]
pub struct PoolRow {
    /// Whose.
    pub tenant: Option<TenantId>,
    /// All of its addresses.
    pub subnet: Subnet,
    /// Where dynamic addresses come from.
    pub sub_pool: Option<Subnet>,
    /// `local` or `global`.
    pub space: String,
    /// Docker's networks on it, twelve characters each.
    pub networks: Option<String>,
    /// Requests that were not released.
    pub refs: i64,
    /// Addresses granted through it.
    pub leases: i64,
    /// Docker's id.
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
    /// The pool of that id.
    ///
    /// # Errors
    /// The disk's.
    pub fn pool_by_id(&self, id: &PoolId) -> Result<Option<Pool>> {
        self.first(&format!("{POOL} WHERE p.pool_id = ?1"), [Text(id)], pool)
    }

    /// The oldest pool on that set with the same sub-pool and, if it matters, order.
    ///
    /// # Errors
    /// The disk's.
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
    ///
    /// # Errors
    /// The disk's.
    pub fn pools_of_set(&self, set: &PoolSet) -> Result<Vec<Pool>> {
        self.all(&format!("{POOL} WHERE p.set_id = ?1 ORDER BY p.id"), [set.id], pool)
    }

    /// The local pools of that subnet that were requested more often than networks of ciao-net are on them, newest
    /// request first; those without tenant only while no network is on their set.
    ///
    /// # Errors
    /// The disk's.
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

    /// The set of a tenant with exactly that subnet.
    ///
    /// # Errors
    /// The disk's.
    pub fn pool_set_of(&self, scope: Scope, tenant: &TenantId, subnet: Subnet) -> Result<Option<PoolSet>> {
        self.first(
            "SELECT id, scope, tenant, subnet FROM pool_set WHERE scope = ?1 AND tenant = ?2 AND subnet = ?3",
            params![Text(scope), Text(tenant), Text(subnet)],
            |row| pool_set(row, "id"),
        )
    }

    /// The sets of a tenant (or of all who named none) that share an address with `subnet`, lowest end first.
    ///
    /// # Errors
    /// The disk's.
    pub fn pool_sets_touching(&self, scope: Scope, tenant: Option<&TenantId>, subnet: Subnet) -> Result<Vec<PoolSet>> {
        let (range, family) = (subnet.range(), subnet.family());
        self.all(
            "SELECT id, scope, tenant, subnet FROM pool_set
             WHERE scope = ?1 AND tenant IS ?2 AND last >= ?3 AND first <= ?4 AND length(first) = length(?3) ORDER BY last",
            params![Text(scope), text(tenant), Key::new(family, range.first), Key::new(family, range.last)],
            |row| pool_set(row, "id"),
        )
    }

    /// Makes a set whose addresses are all free.
    ///
    /// # Errors
    /// The disk's.
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

    /// Makes a pool on a set, with one reference, that was requested in `space`. `tenant`: what the request named.
    ///
    /// # Errors
    /// The disk's.
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

    /// The highest row that a pool of this database ever had.
    ///
    /// # Errors
    /// The disk's.
    pub fn last_pool_row(&self) -> Result<i64> {
        let last = self.first("SELECT seq FROM sqlite_sequence WHERE name = 'pool_record'", [], |row| row.get(0))?;
        Ok(last.unwrap_or(0))
    }

    /// The pools of that subnet whose own PoolID was lost.
    ///
    /// # Errors
    /// The disk's.
    pub fn lost_pools(&self, scope: Scope, subnet: Subnet) -> Result<Vec<Pool>> {
        let pools = self.all(
            &format!("{POOL} WHERE s.scope = ?1 AND s.subnet = ?2 ORDER BY p.id"),
            params![Text(scope), Text(subnet)],
            pool,
        )?;
        Ok(pools.into_iter().filter(|pool| pool.pool_id.is_lost()).collect())
    }

    /// Records whether it is known who has which address of a set.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_incomplete(&self, set: &PoolSet, incomplete: bool) -> Result<()> {
        self.change("UPDATE pool_set SET incomplete = ?2 WHERE id = ?1", params![set.id, incomplete]).map(drop)
    }

    /// Makes a pool on a set that Docker has an id of already, with one reference.
    ///
    /// # Errors
    /// The disk's; the id is another pool's.
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
        self.pool_by_id(id)?.context("the pool just made is not there")
    }

    /// Gives a pool whose own PoolID was lost the one that Docker has.
    ///
    /// # Errors
    /// The disk's; the id is another pool's.
    pub fn set_pool_id(&self, pool: &Pool, id: &PoolId) -> Result<()> {
        self.change("UPDATE network_subnet SET pool = ?2 WHERE pool = ?1", params![Text(&pool.pool_id), Text(id)])?;
        self.change("UPDATE pool_record SET pool_id = ?2 WHERE id = ?1", params![pool.id, Text(id)]).map(drop)
    }

    /// Counts a reference more, as of now and of a request in `space`.
    ///
    /// # Errors
    /// The disk's.
    pub fn add_pool_ref(&self, pool: &Pool, space: &AddressSpace) -> Result<()> {
        self.change(
            "UPDATE pool_record SET refs = refs + 1, nonce = ?3, requested = max(requested, ?2) WHERE id = ?1",
            params![pool.id, now(), space.nonce()],
        )
        .map(drop)
    }

    /// Counts `less` references less.
    ///
    /// # Errors
    /// The disk's, or a count below zero.
    pub fn drop_pool_refs(&self, pool: &Pool, less: i64) -> Result<()> {
        self.change("UPDATE pool_record SET refs = refs - ?2 WHERE id = ?1", params![pool.id, less]).map(drop)
    }

    /// Remembers the last address given in serial mode.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_pool_cursor(&self, pool: &Pool, number: u128) -> Result<()> {
        let cursor = Key::new(pool.set.subnet.family(), number);
        self.change("UPDATE pool_record SET cursor = ?2 WHERE id = ?1", params![pool.id, cursor]).map(drop)
    }

    /// Forgets a pool and frees the leases granted through it; its set goes with the last pool on it. A gateway that
    /// other pools' networks may share stays as long as the set. Says how many leases were still held.
    ///
    /// # Errors
    /// The disk's.
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

    /// The pools that were last asked for before a time, in milliseconds since 1970.
    ///
    /// # Errors
    /// The disk's.
    pub fn pools_requested_before(&self, time: i64) -> Result<Vec<Pool>> {
        self.all(&format!("{POOL} WHERE p.created < ?1 AND p.requested < ?1 ORDER BY p.id"), [time], pool)
    }

    /// The sets without tenant of that subnet that a network of ciao-net is on.
    ///
    /// # Errors
    /// The disk's.
    pub fn own_sets_with_network(&self, subnet: Subnet) -> Result<Vec<i64>> {
        self.all(
            "SELECT DISTINCT s.id FROM pool_set s JOIN network_subnet n ON n.set_id = s.id WHERE s.tenant IS NULL AND s.subnet = ?1",
            [Text(subnet)],
            |row| row.get(0),
        )
    }

    /// How many networks of ciao-net are on a set.
    ///
    /// # Errors
    /// The disk's.
    pub fn networks_on_set(&self, set: i64) -> Result<i64> {
        let count = self.first("SELECT count(*) FROM network_subnet WHERE set_id = ?1", [set], |row| row.get(0))?;
        Ok(count.unwrap_or(0))
    }

    /// Every pool, for people.
    ///
    /// # Errors
    /// The disk's.
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
