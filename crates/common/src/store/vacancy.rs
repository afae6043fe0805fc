// SPDX-License-Identifier: Apache-2.0
//! Obstacles to a new pool. CIDRs are nested or disjoint, so each query is an index search, independent of the number
//! of pools.

use anyhow::Result;
use rusqlite::params;

use super::Tx;
use super::value::{Key, Text, range, text};
use crate::types::{AddressRange, Scope, Subnet, TenantId};

impl Tx<'_> {
    /// Addresses in `candidate` that are not available for a new pool: of a set of the tenant (of any tenant, if the
    /// request names none, because the network may turn out to be any tenant's), or of a route of the host.
    pub fn obstacle(&self, scope: Scope, tenant: Option<&TenantId>, candidate: Subnet) -> Result<Option<AddressRange>> {
        let of_set = match tenant {
            // The sets of a tenant do not overlap, so the first one that ends at or after the start decides.
            Some(tenant) => self.first_end(
                "SELECT first, last FROM pool_set WHERE scope = ?1 AND tenant = ?2 AND length(last) = ?3 AND last >= ?4 ORDER BY last LIMIT 1",
                (scope, Some(tenant)),
                candidate,
            )?,
            None => self.set_of_any_tenant(scope, candidate)?,
        };
        if of_set.is_some() {
            return Ok(of_set);
        }
        let above = self.covering("SELECT first, last FROM host_route WHERE subnet = ?1", candidate, None)?;
        if above.is_some() {
            return Ok(above);
        }
        self.first_end(
            "SELECT first, last FROM host_route WHERE ?1 <> '' AND ?2 IS NULL AND length(last) = ?3 AND last >= ?4 ORDER BY last LIMIT 1",
            (scope, None),
            candidate,
        )
    }

    fn set_of_any_tenant(&self, scope: Scope, candidate: Subnet) -> Result<Option<AddressRange>> {
        let above = self.covering(
            "SELECT first, last FROM pool_set WHERE scope = ?2 AND subnet = ?1 LIMIT 1",
            candidate,
            Some(scope),
        )?;
        if above.is_some() {
            return Ok(above);
        }
        self.first_end(
            "SELECT first, last FROM pool_set WHERE scope = ?1 AND ?2 IS NULL AND length(last) = ?3 AND last >= ?4 ORDER BY last LIMIT 1",
            (scope, None),
            candidate,
        )
    }

    /// The first range that ends in `candidate` or above, if the two overlap.
    fn first_end(
        &self,
        sql: &str,
        (scope, tenant): (Scope, Option<&TenantId>),
        candidate: Subnet,
    ) -> Result<Option<AddressRange>> {
        let (family, wanted) = (candidate.family(), candidate.range());
        let bytes = family.bits() / 8;
        let found =
            self.first(sql, params![Text(scope), text(tenant), bytes, Key::new(family, wanted.first)], range)?;
        Ok(found.filter(|found| found.overlaps(wanted)))
    }

    /// The largest subnet that covers `candidate`, among those found by `sql`.
    fn covering(&self, sql: &str, candidate: Subnet, scope: Option<Scope>) -> Result<Option<AddressRange>> {
        for prefix in 0..=candidate.prefix() {
            let above = Subnet::new(candidate.network(), prefix)?;
            let found = match scope {
                Some(scope) => self.first(sql, params![Text(above), Text(scope)], range)?,
                None => self.first(sql, params![Text(above)], range)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}
