// SPDX-License-Identifier: Apache-2.0
//! Terms of global sets: the leadership of a swarm's manager that granted an address.
//!
//! A new leader first requests everything that exists again. What it does not request again may be gone, or still be in
//! use because the leadership did not change after all; so it is kept while there is room, and at least until one lease
//! was requested again, which only a new leader does.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use rusqlite::params;

use super::value::{Text, get, text};
use super::{PoolSet, Tx};
use crate::types::{Subnet, TenantId};

/// Setting with the number of leaderships.
const LEADERSHIP: &str = "leadership";
/// Setting with the time of the last one, or of the last restore that began under it.
const RESTORED: &str = "restored";

/// State of the restore of a global set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The leadership of the set.
    pub term: i64,
    /// Begin of a restore by a new leader.
    pub restoring: Option<i64>,
    /// Whether that leader requested one of the leases again.
    pub confirmed: bool,
}

impl Tx<'_> {
    /// Upper bound of the times this node's engine has started or become a swarm's leader.
    pub fn leadership(&self) -> Result<i64> {
        Ok(self.setting(LEADERSHIP)?.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Records that there were at least so many leaderships.
    pub fn raise_leadership(&self, least: i64) -> Result<()> {
        if self.leadership()? < least {
            self.set_setting(LEADERSHIP, &least.to_string())?;
            self.set_setting(RESTORED, &self.now().to_string())?;
        }
        Ok(())
    }

    /// Whether the last leadership, or the last restore under it, began after a time.
    pub fn is_restoring_since(&self, time: i64) -> Result<bool> {
        Ok(self.setting(RESTORED)?.and_then(|text| text.parse::<i64>().ok()).is_some_and(|began| began > time))
    }

    /// The term of a set.
    pub fn term_of(&self, set: &PoolSet) -> Result<Option<Term>> {
        self.first("SELECT term, restoring, confirmed FROM pool_set WHERE id = ?1", [set.id], |row| {
            Ok(Term { term: row.get(0)?, restoring: row.get(1)?, confirmed: row.get(2)? })
        })
    }

    /// The global set of that tenant and subnet of the earliest leadership. Without a tenant, each network has a set of
    /// its own: one that was requested after the time `recently` is not the next one's.
    pub fn set_of_former_term(
        &self,
        tenant: Option<&TenantId>,
        subnet: Subnet,
        recently: i64,
    ) -> Result<Option<PoolSet>> {
        let before = self.leadership()?;
        let former = "scope = 'global' AND tenant IS ?1 AND subnet = ?2 AND term < ?3 AND (tenant IS NOT NULL
             OR coalesce((SELECT max(requested) FROM pool_record WHERE set_id = pool_set.id), 0) <= ?4) ORDER BY term, id LIMIT 1";
        Ok(self.sets_by(former, params![text(tenant), Text(subnet), before, recently])?.into_iter().next())
    }

    /// Records that a set was requested under this leadership, which is the term of a new set.
    pub fn record_set_request(&self, set: &PoolSet, is_new: bool) -> Result<()> {
        let leadership = self.leadership()?;
        self.change(
            "UPDATE pool_set SET asked = ?2, term = iif(?3, ?2, term) WHERE id = ?1",
            params![set.id, leadership, is_new],
        )
    }

    /// Begins the restore of a set by a new leader: the set gets this term, earlier grants are former, and the pools
    /// have no references; those of a pool requested after the time `recently` stay, since it may be the same restore.
    pub fn begin_restore(&self, set: &PoolSet, recently: i64) -> Result<()> {
        self.change(
            "UPDATE pool_record SET former = former + refs, refs = 0 WHERE set_id = ?1 AND requested <= ?2",
            params![set.id, recently],
        )?;
        self.change(
            "UPDATE pool_set SET term = ?2, restoring = ?3, restored = ?3, confirmed = 0, incomplete = 0 WHERE id = ?1",
            params![set.id, self.leadership()?, self.now()],
        )?;
        self.set_setting(RESTORED, &self.now().to_string())
    }

    /// Records that the leader requested a lease of the set again.
    pub fn confirm_restore(&self, set: &PoolSet) -> Result<()> {
        self.change("UPDATE pool_set SET confirmed = 1 WHERE id = ?1 AND confirmed = 0", [set.id])
    }

    /// Whether the leader of a set has changed for certain, because it requested a lease of this or another set again,
    /// or the restore began before a time.
    pub fn has_new_leader(&self, set: &PoolSet, before: i64) -> Result<bool> {
        self.exists(
            "SELECT 1 FROM pool_set s WHERE s.id = ?1 AND (s.restoring <= ?2 OR EXISTS
             (SELECT 1 FROM pool_set o WHERE o.scope = 'global' AND o.term = s.term AND o.confirmed = 1))",
            params![set.id, before],
        )
    }

    /// Whether a network on the set has requested its gateway under the set's leadership.
    pub fn has_gateway_of_term(&self, set: &PoolSet) -> Result<bool> {
        self.exists(
            "SELECT 1 FROM address_record a JOIN pool_set s ON s.id = a.set_id
             WHERE a.set_id = ?1 AND a.kind = 'gateway' AND a.term = s.term",
            [set.id],
        )
    }

    /// Cancels a restore, since the leader did not change. Former grants are valid again.
    pub fn cancel_restore(&self, set: &PoolSet) -> Result<()> {
        self.change(
            "UPDATE address_record SET term = (SELECT term FROM pool_set WHERE id = ?1) WHERE set_id = ?1",
            [set.id],
        )?;
        self.change("UPDATE pool_record SET refs = refs + former, former = 0 WHERE set_id = ?1", [set.id])?;
        self.change("UPDATE pool_set SET restoring = NULL, confirmed = 0 WHERE id = ?1", [set.id])
    }

    /// Ends the restore of a set.
    pub fn finish_restore(&self, set: &PoolSet) -> Result<()> {
        self.change("UPDATE pool_record SET former = 0 WHERE set_id = ?1", [set.id])?;
        self.change("UPDATE pool_set SET restoring = NULL WHERE id = ?1", [set.id])
    }

    /// Addresses of a set granted under an earlier leadership and not requested again, oldest grant first.
    pub fn former_of_set(&self, set: &PoolSet) -> Result<Vec<IpAddr>> {
        self.all(
            "SELECT a.address FROM address_record a JOIN pool_set s ON s.id = a.set_id
             WHERE a.set_id = ?1 AND a.term < s.term ORDER BY a.granted, a.key",
            [set.id],
            |row| get(row, "address"),
        )
    }

    /// The sets with a confirmed restore that began before a time.
    pub fn sets_restored_before(&self, time: i64) -> Result<Vec<PoolSet>> {
        self.sets_by("scope = 'global' AND confirmed = 1 AND restoring <= ?1", [time])
    }

    /// The global sets not requested since an earlier leadership, if this one has restored another set, and not in the
    /// time `within` before that: the plugin may have been started in the middle of a restore.
    pub fn sets_of_former_leaders(&self, within: Duration) -> Result<Vec<PoolSet>> {
        self.sets_by(
            "scope = 'global' AND asked < ?1 AND EXISTS (
                 SELECT 1 FROM pool_set o WHERE o.scope = 'global' AND o.term = ?1 AND o.confirmed = 1 AND o.restoring IS NULL
                 AND o.restored - ?2 > coalesce((SELECT max(requested) FROM pool_record WHERE set_id = pool_set.id), 0))",
            params![self.leadership()?, i64::try_from(within.as_millis())?],
        )
    }
}
