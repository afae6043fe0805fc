// SPDX-License-Identifier: Apache-2.0
//! Gateways beside the networks that have them: networks on one set share a gateway, and each counts.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::params;

use super::pool::pool_set;
use super::value::{Key, Text, get};
use super::{Pool, PoolSet, Tx};
use crate::types::PoolId;

// Left to itself, SQLite takes the primary key here, and so all addresses of a set: INDEXED BY.

/// The gateway of a set.
pub(super) const GATEWAY_OF_SET: &str =
    "SELECT address FROM address_record INDEXED BY address_gateway WHERE set_id = ?1 AND kind = 'gateway'";

impl Tx<'_> {
    /// The gateway that a set's networks share so far.
    ///
    /// # Errors
    /// The disk's.
    pub fn gateway_of(&self, set: &PoolSet) -> Result<Option<IpAddr>> {
        self.first(GATEWAY_OF_SET, [set.id], |row| Ok(row.get::<_, Text<IpAddr>>(0)?.0))
    }

    /// Counts a gateway's grants less by `less`. The caller keeps the count above zero.
    ///
    /// # Errors
    /// The disk's.
    pub fn count_down(&self, set: &PoolSet, address: IpAddr, less: i64) -> Result<()> {
        self.change(
            "UPDATE address_record SET held = held - ?3 WHERE set_id = ?1 AND key = ?2",
            params![set.id, Key::of(address), less],
        )
        .map(drop)
    }

    /// Gateways that were granted more often than networks of ciao-net have them, the last time before `before`: how
    /// often, and how many networks have each. Only of sets whose references are all such networks'; which set without
    /// tenant a network is on may still be undecided.
    ///
    /// # Errors
    /// The disk's.
    pub fn unclaimed_gateways(&self, before: i64) -> Result<Vec<(PoolSet, IpAddr, i64, i64)>> {
        self.all(
            "SELECT s.id, s.scope, s.tenant, s.subnet, a.address, a.held,
                    (SELECT count(*) FROM network_subnet n WHERE n.set_id = s.id AND n.gateway = a.address) AS networks
             FROM address_record a JOIN pool_set s ON s.id = a.set_id
             WHERE a.kind = 'gateway' AND a.granted < ?1 AND s.scope = 'local' AND a.held > networks AND (s.tenant IS NOT NULL OR networks > 0)
               AND (SELECT count(*) FROM network_subnet n WHERE n.set_id = s.id)
                   = (SELECT sum(p.refs) FROM pool_record p WHERE p.set_id = s.id)
             LIMIT 1000",
            [before],
            |row| Ok((pool_set(row, "id")?, get(row, "address")?, row.get("held")?, row.get("networks")?)),
        )
    }

    /// Gateways that are granted less often than networks of ciao-net have them, each of which is older than `before`:
    /// through which pool one is to be granted, how often it is, and how many networks have it. Of the same sets as
    /// [`Self::unclaimed_gateways`].
    ///
    /// # Errors
    /// The disk's.
    pub fn unheld_gateways(&self, before: i64) -> Result<Vec<(Pool, IpAddr, i64, i64)>> {
        let found = self.all(
            "SELECT n.gateway AS address, count(*) AS networks,
                    coalesce((SELECT a.held FROM address_record a
                              WHERE a.set_id = n.set_id AND a.kind = 'gateway' AND a.address = n.gateway), 0) AS held,
                    (SELECT min(p.pool_id) FROM pool_record p WHERE p.set_id = n.set_id) AS pool
             FROM network_subnet n JOIN network_record r ON r.id = n.network JOIN pool_set s ON s.id = n.set_id
             WHERE n.gateway IS NOT NULL AND s.scope = 'local'
               AND (SELECT count(*) FROM network_subnet m WHERE m.set_id = s.id)
                   = (SELECT sum(p.refs) FROM pool_record p WHERE p.set_id = s.id)
             GROUP BY n.set_id, n.gateway
             HAVING held < networks AND max(r.created) < ?1
             LIMIT 1000",
            [before],
            |row| Ok((get::<PoolId>(row, "pool")?, get(row, "address")?, row.get("held")?, row.get("networks")?)),
        )?;
        let mut gateways = Vec::new();
        for (pool, address, held, networks) in found {
            gateways.extend(self.pool_by_id(&pool)?.map(|pool| (pool, address, held, networks)));
        }
        Ok(gateways)
    }
}
