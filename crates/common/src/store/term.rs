// SPDX-License-Identifier: Apache-2.0
//! Terms of global sets: which leadership of a swarm's manager granted what.
//!
//! A new leader requests everything that exists again, then allocates anew. What it does not request again may be gone,
//! or may live on because the leadership did not change after all; so it is kept as long as there is room, and at least
//! until one lease was requested again, which only a new leader does.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::params;

use super::pool::pool_set;
use super::value::{Text, get};
use super::{PoolSet, Tx, now};
use crate::types::{Scope, Subnet, TenantId};

/// Where the count of leaderships is kept.
const LEADERSHIP: &str = "leadership";

/// How far a global set is in being restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The leadership that it is of.
    pub term: i64,
    /// Since when a new leader is restoring it.
    pub restoring: Option<i64>,
    /// Whether that leader requested one of its leases again.
    pub confirmed: bool,
}

impl Tx<'_> {
    /// How often this node's engine has started or become a swarm's leader, at most.
    ///
    /// # Errors
    /// The disk's.
    pub fn leadership(&self) -> Result<i64> {
        Ok(self.setting(LEADERSHIP)?.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Counts one more.
    ///
    /// # Errors
    /// The disk's.
    pub fn count_leadership(&self) -> Result<()> {
        self.set_setting(LEADERSHIP, &(self.leadership()? + 1).to_string())
    }

    /// A set's term.
    ///
    /// # Errors
    /// The disk's.
    pub fn term_of(&self, set: &PoolSet) -> Result<Option<Term>> {
        self.first("SELECT term, restoring, confirmed FROM pool_set WHERE id = ?1", [set.id], |row| {
            Ok(Term { term: row.get(0)?, restoring: row.get(1)?, confirmed: row.get(2)? })
        })
    }

    /// The oldest global set of that tenant and subnet that is of a leadership before this one.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_of_former_term(&self, tenant: Option<&TenantId>, subnet: Subnet) -> Result<Option<PoolSet>> {
        let before = self.leadership()?;
        self.first(
            "SELECT id, scope, tenant, subnet FROM pool_set
             WHERE scope = 'global' AND tenant IS ?1 AND subnet = ?2 AND term < ?3 ORDER BY id LIMIT 1",
            params![super::value::text(tenant), Text(subnet), before],
            |row| pool_set(row, "id"),
        )
    }

    /// Records that a set was requested under this leadership; a new one is of its term.
    ///
    /// # Errors
    /// The disk's.
    pub fn ask_for_set(&self, set: &PoolSet, is_new: bool) -> Result<()> {
        let leadership = self.leadership()?;
        self.change(
            "UPDATE pool_set SET asked = ?2, term = iif(?3, ?2, term) WHERE id = ?1",
            params![set.id, leadership, is_new],
        )
        .map(drop)
    }

    /// A new leader begins to restore a set: it is of this term, what was granted before is former, and nothing refers
    /// to its pools.
    ///
    /// # Errors
    /// The disk's.
    pub fn begin_restore(&self, set: &PoolSet) -> Result<()> {
        self.change(
            "UPDATE pool_set SET term = ?2, restoring = ?3, confirmed = 0, incomplete = 0 WHERE id = ?1",
            params![set.id, self.leadership()?, now()],
        )?;
        self.change("UPDATE pool_record SET former = former + refs, refs = 0 WHERE set_id = ?1", [set.id]).map(drop)
    }

    /// Records that the leader requested one of the set's leases again.
    ///
    /// # Errors
    /// The disk's.
    pub fn confirm_restore(&self, set: &PoolSet) -> Result<()> {
        self.change("UPDATE pool_set SET confirmed = 1 WHERE id = ?1 AND confirmed = 0", [set.id]).map(drop)
    }

    /// Takes the beginning of a restore back: it was the same leader all the time. What was former is granted.
    ///
    /// # Errors
    /// The disk's.
    pub fn cancel_restore(&self, set: &PoolSet) -> Result<()> {
        self.change(
            "UPDATE address_record SET term = (SELECT term FROM pool_set WHERE id = ?1) WHERE set_id = ?1",
            [set.id],
        )?;
        self.change("UPDATE pool_record SET refs = refs + former, former = 0 WHERE set_id = ?1", [set.id])?;
        self.change("UPDATE pool_set SET restoring = NULL WHERE id = ?1", [set.id]).map(drop)
    }

    /// The restore of a set is over.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish_restore(&self, set: &PoolSet) -> Result<()> {
        self.change("UPDATE pool_record SET former = 0 WHERE set_id = ?1", [set.id])?;
        self.change("UPDATE pool_set SET restoring = NULL WHERE id = ?1", [set.id]).map(drop)
    }

    /// Addresses of a set that were granted under an earlier leadership and not requested again, longest granted first.
    ///
    /// # Errors
    /// The disk's.
    pub fn former_of_set(&self, set: &PoolSet) -> Result<Vec<IpAddr>> {
        self.all(
            "SELECT a.address FROM address_record a JOIN pool_set s ON s.id = a.set_id
             WHERE a.set_id = ?1 AND a.term < s.term ORDER BY a.granted, a.key",
            [set.id],
            |row| get(row, "address"),
        )
    }

    /// The sets whose restore began before a time and was confirmed.
    ///
    /// # Errors
    /// The disk's.
    pub fn sets_restored_before(&self, time: i64) -> Result<Vec<PoolSet>> {
        self.all(
            "SELECT id, scope, tenant, subnet FROM pool_set WHERE scope = 'global' AND confirmed = 1 AND restoring <= ?1",
            [time],
            |row| pool_set(row, "id"),
        )
    }

    /// The global sets that no leader asked for since an earlier leadership, if this one has restored another set.
    ///
    /// # Errors
    /// The disk's.
    pub fn sets_of_former_leaders(&self) -> Result<Vec<PoolSet>> {
        self.all(
            "SELECT id, scope, tenant, subnet FROM pool_set WHERE scope = 'global' AND asked < ?1
             AND EXISTS (SELECT 1 FROM pool_set o WHERE o.scope = 'global' AND o.term = ?1 AND o.confirmed = 1 AND o.restoring IS NULL)",
            [self.leadership()?],
            |row| pool_set(row, "id"),
        )
    }
}

impl PoolSet {
    /// Whether a swarm's leader allocates it.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.scope == Scope::Global
    }
}
