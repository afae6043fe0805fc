// SPDX-License-Identifier: Apache-2.0
//! Table `pool_set`: the set of addresses of a subnet, one per tenant.

use anyhow::Result;
use rusqlite::{Params, Row, params};

use super::Tx;
use super::value::{Key, Text, get, get_optional, text};
use crate::types::{Scope, Subnet, TenantId};

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

impl PoolSet {
    /// Whether the set is allocated by a swarm's leader.
    pub fn is_global(&self) -> bool {
        self.scope == Scope::Global
    }
}

pub(super) fn pool_set(row: &Row<'_>, id: &str) -> rusqlite::Result<PoolSet> {
    Ok(PoolSet {
        id: row.get(id)?,
        scope: get(row, "scope")?,
        tenant: get_optional(row, "tenant")?,
        subnet: get(row, "subnet")?,
    })
}

impl Tx<'_> {
    /// The set of a tenant with that subnet.
    pub fn pool_set_of(&self, scope: Scope, tenant: &TenantId, subnet: Subnet) -> Result<Option<PoolSet>> {
        let of_tenant = "scope = ?1 AND tenant = ?2 AND subnet = ?3";
        Ok(self.sets_by(of_tenant, params![Text(scope), Text(tenant), Text(subnet)])?.into_iter().next())
    }

    /// The sets of a tenant (`None`: those without tenant) that overlap `subnet`, lowest end first.
    pub fn pool_sets_touching(&self, scope: Scope, tenant: Option<&TenantId>, subnet: Subnet) -> Result<Vec<PoolSet>> {
        let [first, last] = Key::ends(subnet);
        let touching =
            "scope = ?1 AND tenant IS ?2 AND last >= ?3 AND first <= ?4 AND length(first) = length(?3) ORDER BY last";
        self.sets_by(touching, params![Text(scope), text(tenant), first, last])
    }

    pub(super) fn sets_by(&self, condition: &str, params: impl Params) -> Result<Vec<PoolSet>> {
        let sets = format!("SELECT id, scope, tenant, subnet FROM pool_set WHERE {condition}");
        self.all(&sets, params, |row| pool_set(row, "id"))
    }

    /// Creates a set with all addresses free.
    pub fn insert_pool_set(&self, scope: Scope, tenant: Option<&TenantId>, subnet: Subnet) -> Result<PoolSet> {
        let [first, last] = Key::ends(subnet);
        self.change(
            "INSERT INTO pool_set (scope, tenant, subnet, first, last) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![Text(scope), text(tenant), Text(subnet), first, last],
        )?;
        let id = self.conn.last_insert_rowid();
        self.change("INSERT INTO free_range (set_id, first, last) VALUES (?1, ?2, ?3)", params![id, first, last])?;
        Ok(PoolSet { id, scope, tenant: tenant.cloned(), subnet })
    }

    /// Records that the allocated addresses of a set are not known.
    pub fn set_incomplete(&self, set: &PoolSet) -> Result<()> {
        self.change("UPDATE pool_set SET incomplete = 1 WHERE id = ?1", [set.id])
    }

    /// Records that the allocated addresses of all sets of this host are known.
    pub fn complete_sets(&self) -> Result<()> {
        self.change("UPDATE pool_set SET incomplete = 0 WHERE scope = 'local' AND incomplete = 1", [])
    }
}
