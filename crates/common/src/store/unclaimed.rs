// SPDX-License-Identifier: Apache-2.0
//! Orphaned leases: granted for an endpoint of a network of ciao-net that was never created, or is deleted.
//!
//! This follows only from ciao-net's tables, so all leases are scanned, a page at a time. Column `unclaimed`, with an
//! index of its own, records those found.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::params;

use super::pool_set::pool_set;
use super::value::{Key, get};
use super::{PoolSet, Tx};

/// Whether `a`, an address record of the set `s`, is a lease of a network of ciao-net without an endpoint.
macro_rules! abandoned {
    () => {
        "a.kind = 'lease' AND s.scope = 'local'
         AND EXISTS (SELECT 1 FROM network_subnet n WHERE n.set_id = s.id)
         AND NOT EXISTS (SELECT 1 FROM network_subnet n JOIN endpoint_record e
                         ON e.network = n.network AND (e.address = a.address OR e.address6 = a.address) WHERE n.set_id = s.id)
         -- The set of a network without tenant may still be undecided: an endpoint on either counts.
         AND NOT (s.tenant IS NULL
                  AND EXISTS (SELECT 1 FROM network_subnet n JOIN pool_set o ON o.id = n.set_id AND o.tenant IS NULL
                              JOIN endpoint_record e ON e.network = n.network AND (e.address = a.address OR e.address6 = a.address)
                              WHERE n.subnet = s.subnet))
         AND NOT EXISTS (SELECT 1 FROM network_subnet n, json_each(n.aux) x WHERE n.set_id = s.id AND x.value = a.address)
         -- Nor one of another driver, whose endpoints are not known here, if every reference to its pool is a network of ciao-net.
         AND NOT EXISTS (SELECT 1 FROM pool_record p WHERE p.id = a.pool
                         AND p.refs > (SELECT count(*) FROM network_subnet n WHERE n.set_id = s.id AND (n.pool IS NULL OR n.pool = p.pool_id)))"
    };
}

/// Whether one lease is abandoned.
pub(super) const IS_ABANDONED: &str = concat!(
    "SELECT 1 FROM address_record a JOIN pool_set s ON s.id = a.set_id
     WHERE a.set_id = ?1 AND a.key = ?2 AND a.granted < ?3 AND ",
    abandoned!()
);

/// A page of the table, with whether each lease is abandoned and not recorded as such.
pub(super) const NEWLY_ABANDONED: &str = concat!(
    "SELECT s.id, s.scope, s.tenant, s.subnet, a.address, (a.unclaimed IS NULL AND a.granted < ?3 AND ",
    abandoned!(),
    ") AS newly FROM address_record a JOIN pool_set s ON s.id = a.set_id
     WHERE (a.set_id, a.key) > (?1, ?2) ORDER BY a.set_id, a.key LIMIT ?4"
);

// INDEXED BY: SQLite would choose the primary key here, and so visit all addresses of a set.

/// Leases of a set recorded as orphaned for some time.
pub(super) const UNCLAIMED_OF_SET: &str = "SELECT address FROM address_record INDEXED BY address_unclaimed
     WHERE set_id = ?1 AND unclaimed <= ?2 ORDER BY unclaimed LIMIT ?3";

/// The same of all sets, and recorded leases that have an endpoint now. CROSS JOIN: one search per set, in that order.
pub(super) const UNCLAIMED: &str = concat!(
    "SELECT s.id, s.scope, s.tenant, s.subnet, a.address FROM pool_set s
     CROSS JOIN address_record a INDEXED BY address_unclaimed ON a.set_id = s.id
     WHERE a.unclaimed IS NOT NULL AND (a.unclaimed <= ?1 OR NOT (",
    abandoned!(),
    ")) LIMIT ?2"
);

impl Tx<'_> {
    /// Whether an address is a lease of a network of ciao-net, granted before `before`, without an endpoint. Auxiliary
    /// addresses are not, nor are those of a pool that another driver's network may be on.
    pub fn is_abandoned(&self, set: &PoolSet, address: IpAddr, before: i64) -> Result<bool> {
        self.exists(IS_ABANDONED, params![set.id, Key::of(address), before])
    }

    /// The next `most` allocated addresses after one of a set, each with whether it [is abandoned](Self::is_abandoned)
    /// and not recorded as orphaned.
    pub fn newly_abandoned(
        &self,
        after: (i64, IpAddr),
        before: i64,
        most: usize,
    ) -> Result<Vec<(PoolSet, IpAddr, bool)>> {
        self.all(NEWLY_ABANDONED, params![after.0, Key::of(after.1), before, i64::try_from(most)?], |row| {
            Ok((pool_set(row, "id")?, get(row, "address")?, row.get("newly")?))
        })
    }

    /// Records that a lease is orphaned.
    pub fn set_unclaimed(&self, set: &PoolSet, address: IpAddr) -> Result<()> {
        self.change(
            "UPDATE address_record SET unclaimed = ?3 WHERE set_id = ?1 AND key = ?2 AND unclaimed IS NULL",
            params![set.id, Key::of(address), self.now()],
        )
    }

    /// Records that a lease is not orphaned.
    pub fn forget_unclaimed(&self, set: &PoolSet, address: IpAddr) -> Result<()> {
        self.change(
            "UPDATE address_record SET unclaimed = NULL WHERE set_id = ?1 AND key = ?2",
            params![set.id, Key::of(address)],
        )
    }

    /// The first `most` leases of a set orphaned since `until` or longer, longest first.
    pub fn unclaimed_of_set(&self, set: &PoolSet, until: i64, most: usize) -> Result<Vec<IpAddr>> {
        self.all(UNCLAIMED_OF_SET, params![set.id, until, i64::try_from(most)?], |row| get(row, "address"))
    }

    /// `most` such leases of all sets, and recorded ones that have an endpoint now.
    pub fn unclaimed(&self, until: i64, most: usize) -> Result<Vec<(PoolSet, IpAddr)>> {
        self.all(UNCLAIMED, params![until, i64::try_from(most)?], |row| {
            Ok((pool_set(row, "id")?, get(row, "address")?))
        })
    }
}
