// SPDX-License-Identifier: Apache-2.0
//! Numbers of what is recorded, for metrics.

use anyhow::Result;

use super::Tx;
use super::value::{get, get_optional};
use crate::types::{Scope, Subnet, TenantId};

/// How full a set of addresses is.
#[derive(Clone, Debug)]
pub struct SetUse {
    /// Whose; `None`: a set of its own.
    pub tenant: Option<TenantId>,
    /// In which address space.
    pub scope: Scope,
    /// Its addresses.
    pub subnet: Subnet,
    /// How many are granted or kept.
    pub used: i64,
}

impl Tx<'_> {
    /// Networks, endpoints, VNICs of launchers, VNICs of Docker, published ports.
    pub fn attachment_counts(&self) -> Result<[i64; 5]> {
        let counts = self.first(
            "SELECT (SELECT count(*) FROM network_record), (SELECT count(*) FROM endpoint_record),
                    (SELECT count(*) FROM vnic_record WHERE owner = 'launcher' AND state = 'live'),
                    (SELECT count(*) FROM vnic_record WHERE owner = 'docker' AND state = 'live'),
                    (SELECT count(*) FROM port_record)",
            [],
            |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?]),
        )?;
        Ok(counts.unwrap_or_default())
    }

    /// Addresses by state: `gateway`, `reserved`, `pending` (no endpoint claims it), `bound`.
    pub fn lease_counts(&self) -> Result<Vec<(String, i64)>> {
        self.all(
            "SELECT CASE WHEN kind <> 'lease' THEN kind WHEN unclaimed IS NOT NULL THEN 'pending' ELSE 'bound' END AS state,
                    count(*) FROM address_record GROUP BY state ORDER BY state",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
    }

    /// How many pools are requested, and the `limit` sets of addresses with most in use.
    pub fn pool_use(&self, limit: u32) -> Result<(i64, Vec<SetUse>)> {
        let pools = self.first("SELECT count(*) FROM pool_record", [], |row| row.get(0))?;
        let sets = self.all(
            "SELECT tenant, scope, subnet, (SELECT count(*) FROM address_record a WHERE a.set_id = s.id) AS used
             FROM pool_set s ORDER BY used DESC, s.id LIMIT ?1",
            [limit],
            |row| {
                Ok(SetUse {
                    tenant: get_optional(row, "tenant")?,
                    scope: get(row, "scope")?,
                    subnet: get(row, "subnet")?,
                    used: row.get("used")?,
                })
            },
        )?;
        Ok((pools.unwrap_or_default(), sets))
    }
}
