// SPDX-License-Identifier: Apache-2.0
//! Reference counts of gateways, which the networks on a set share.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::params;

use super::pool_set::pool_set;
use super::value::{Key, Text, get};
use super::{Pool, PoolSet, Tx};
use crate::types::PoolId;

// INDEXED BY: SQLite would choose the primary key here, and so visit all addresses of a set.

/// The gateway of a set.
pub(super) const GATEWAY_OF_SET: &str =
    "SELECT address FROM address_record INDEXED BY address_gateway WHERE set_id = ?1 AND kind = 'gateway'";

impl Tx<'_> {
    /// The gateway of a set.
    pub fn gateway_of(&self, set: &PoolSet) -> Result<Option<IpAddr>> {
        self.first(GATEWAY_OF_SET, [set.id], |row| Ok(row.get::<_, Text<IpAddr>>(0)?.0))
    }

    /// Decreases the reference count of a gateway. The caller keeps it above zero.
    pub fn count_down(&self, set: &PoolSet, address: IpAddr, less: i64) -> Result<()> {
        self.change(
            "UPDATE address_record SET held = held - ?3 WHERE set_id = ?1 AND key = ?2",
            params![set.id, Key::of(address), less],
        )
    }

    /// Gateways whose reference count exceeds the number of networks with that gateway, with both numbers, if the last
    /// grant is older than `before`. Only of sets whose references all belong to networks of ciao-net: the set of a
    /// network without tenant may still be undecided.
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

    /// Gateways whose reference count is below the number of networks with that gateway, with a pool to grant it
    /// through and both numbers, if all these networks are older than `before`. Of the same sets as
    /// [`Self::unclaimed_gateways`].
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
