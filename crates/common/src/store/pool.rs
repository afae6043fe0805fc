//! Tables `pool_set` and `pool_record`: a subnet's one set of addresses in a tenant's space, and the pools on it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use rusqlite::{Row, params};
use serde::Serialize;

use super::value::{Key, Text, get, get_optional, text};
use super::words::words;
use super::{Tx, now};
use crate::types::{PoolId, Subnet, TenantId};

/// Docker's two address spaces. What is in one is apart from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Networks of one engine.
    Local,
    /// Networks of a swarm, as its leader allocates them.
    Global,
}

words!(Scope, "scope", Local = "local", Global = "global");

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
    "SELECT p.id, p.pool_id, p.set_id, p.sub_pool, p.serial, p.cursor, p.refs, s.scope, s.tenant, s.subnet
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

    /// The pool on that set with the same sub-pool and order, if somebody asked for it before.
    ///
    /// # Errors
    /// The disk's.
    pub fn pool_alike(&self, set: &PoolSet, sub_pool: Option<Subnet>, serial: bool) -> Result<Option<Pool>> {
        let sub_pool = sub_pool.map_or_else(String::new, |s| s.to_string());
        self.first(
            &format!("{POOL} WHERE p.set_id = ?1 AND p.sub_pool = ?2 AND p.serial = ?3"),
            params![set.id, sub_pool, serial],
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

    /// Every set with exactly that subnet that no network of ciao-net is on, newest first.
    ///
    /// # Errors
    /// The disk's.
    pub fn pool_sets_without_network(&self, scope: Scope, subnet: Subnet) -> Result<Vec<PoolSet>> {
        self.all(
            "SELECT id, scope, tenant, subnet FROM pool_set s WHERE scope = ?1 AND subnet = ?2
             AND NOT EXISTS (SELECT 1 FROM network_subnet n WHERE n.set_id = s.id) ORDER BY id DESC",
            params![Text(scope), Text(subnet)],
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

    /// Makes a pool on a set, with one reference.
    ///
    /// # Errors
    /// The disk's.
    pub fn insert_pool(&self, set: &PoolSet, sub_pool: Option<Subnet>, serial: bool) -> Result<Pool> {
        let pool_id = PoolId::random();
        self.change(
            "INSERT INTO pool_record (pool_id, set_id, sub_pool, serial, created, requested) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
            params![Text(&pool_id), set.id, sub_pool.map_or_else(String::new, |s| s.to_string()), serial, now()],
        )?;
        self.pool_by_id(&pool_id)?.context("the pool just made is not there")
    }

    /// Counts a reference more, as of now.
    ///
    /// # Errors
    /// The disk's.
    pub fn add_pool_ref(&self, pool: &Pool) -> Result<()> {
        self.change(
            "UPDATE pool_record SET refs = refs + 1, requested = max(requested, ?2) WHERE id = ?1",
            params![pool.id, now()],
        )
        .map(drop)
    }

    /// Counts `less` references less. The caller keeps the count above zero.
    ///
    /// # Errors
    /// The disk's, or a count of zero.
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
