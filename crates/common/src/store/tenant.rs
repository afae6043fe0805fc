// SPDX-License-Identifier: Apache-2.0
//! Tenants, of whom there is no table: they are whoever has a network, a VNIC or a pool.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Tx;
use super::value::{get, text};
use crate::types::TenantId;

/// A line of the list of tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    /// Its name.
    pub tenant: TenantId,
    /// Docker networks.
    pub networks: i64,
    /// VNICs of launchers.
    pub vnics: i64,
    /// Containers' attachments.
    pub endpoints: i64,
    /// Published ports.
    pub ports: i64,
    /// Addresses that are granted or kept.
    pub leases: i64,
}

impl Tx<'_> {
    /// How many tenants there are.
    pub fn tenant_count(&self) -> Result<i64> {
        let count = self.first(
            "SELECT count(*) FROM (SELECT tenant FROM network_record UNION SELECT tenant FROM vnic_record WHERE state = 'live'
                                   UNION SELECT tenant FROM pool_set) WHERE tenant IS NOT NULL",
            [],
            |row| row.get(0),
        )?;
        Ok(count.unwrap_or_default())
    }

    /// Every tenant, or one, with the number of what it has.
    pub fn tenant_rows(&self, only: Option<&TenantId>) -> Result<Vec<TenantRow>> {
        self.all(
            "WITH t AS (SELECT tenant FROM network_record UNION SELECT tenant FROM vnic_record WHERE state = 'live'
                        UNION SELECT tenant FROM pool_set)
             SELECT tenant, (SELECT count(*) FROM network_record n WHERE n.tenant = t.tenant) AS networks,
                 (SELECT count(*) FROM vnic_record v
                  WHERE v.tenant = t.tenant AND v.owner = 'launcher' AND v.state = 'live') AS vnics,
                 (SELECT count(*) FROM network_record n JOIN endpoint_record e ON e.network = n.id
                  WHERE n.tenant = t.tenant) AS endpoints,
                 (SELECT count(*) FROM network_record n JOIN endpoint_record e ON e.network = n.id
                  JOIN port_record p ON p.endpoint = e.id WHERE n.tenant = t.tenant) AS ports,
                 (SELECT count(*) FROM pool_set s JOIN address_record a ON a.set_id = s.id
                  WHERE s.tenant = t.tenant) AS leases
             FROM t WHERE tenant IS NOT NULL AND (?1 IS NULL OR tenant = ?1) ORDER BY tenant",
            [text(only)],
            |row| {
                Ok(TenantRow {
                    tenant: get(row, "tenant")?,
                    networks: row.get("networks")?,
                    vnics: row.get("vnics")?,
                    endpoints: row.get("endpoints")?,
                    ports: row.get("ports")?,
                    leases: row.get("leases")?,
                })
            },
        )
    }
}
