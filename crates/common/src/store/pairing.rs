// SPDX-License-Identifier: Apache-2.0
//! The pairing of networks and sets of addresses, which Docker requests from two plugins without a common id.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::params;

use super::pool::{POOL, pool};
use super::value::{Key, Text, get_optional};
use super::{Pool, Tx};
use crate::types::{NetworkId, Scope, Subnet};

impl Tx<'_> {
    /// The pools of that subnet with more references than networks of ciao-net, newest request first; those without
    /// tenant only if their set has no network.
    pub fn pools_without_network(&self, scope: Scope, subnet: Subnet) -> Result<Vec<Pool>> {
        self.all(
            &format!(
                "{POOL} WHERE s.scope = ?1 AND s.subnet = ?2
                 AND (SELECT count(*) FROM network_subnet n WHERE n.set_id = s.id AND (n.pool IS NULL OR n.pool = p.pool_id)) < p.refs
                 AND (s.tenant IS NOT NULL OR NOT EXISTS (SELECT 1 FROM network_subnet n WHERE n.set_id = s.id))
                 ORDER BY p.requested DESC, p.id DESC"
            ),
            params![Text(scope), Text(subnet)],
            pool,
        )
    }

    /// Records the set of addresses of a network's subnet, and its first pool.
    pub fn set_network_set(&self, network: &NetworkId, subnet: Subnet, set_id: i64) -> Result<()> {
        self.change(
            "UPDATE network_subnet SET set_id = ?3, pool = (SELECT pool_id FROM pool_record WHERE set_id = ?3 ORDER BY id LIMIT 1)
             WHERE network = ?1 AND subnet = ?2",
            params![Text(network), Text(subnet), set_id],
        )
    }

    /// Whether a network of another set of that subnet (and nonce, if given) was recorded while this pool had none, and
    /// has no endpoint yet that determines its set.
    pub fn is_paired_by_time_alone(&self, pool: &Pool, nonce: Option<&str>) -> Result<bool> {
        self.exists(
            "SELECT 1 FROM pool_record o JOIN pool_set s ON s.id = o.set_id
             JOIN network_subnet n ON n.set_id = s.id JOIN network_record r ON r.id = n.network
             WHERE s.scope = ?1 AND s.subnet = ?2 AND s.tenant IS NULL AND s.id <> ?3 AND (?4 IS NULL OR o.nonce = ?4) AND r.created >= ?5
               AND NOT EXISTS (SELECT 1 FROM endpoint_record e JOIN address_record a
                               ON a.set_id = s.id AND a.kind = 'lease' AND a.address IN (e.address, e.address6) WHERE e.network = r.id)
             LIMIT 1",
            params![Text(pool.set.scope), Text(pool.set.subnet), pool.set.id, nonce, pool.created])
    }

    /// The set without tenant, other than `mine`, with a lease of `address` in the same subnet, and its network. `None`
    /// if `mine` has the lease, or belongs to a tenant.
    pub fn own_set_holding(
        &self,
        mine: i64,
        subnet: Subnet,
        address: IpAddr,
    ) -> Result<Option<(i64, Option<NetworkId>)>> {
        self.first(
            "SELECT s.id, (SELECT n.network FROM network_subnet n WHERE n.set_id = s.id) AS network
             FROM pool_set s JOIN address_record a ON a.set_id = s.id AND a.key = ?3 AND a.kind = 'lease'
             WHERE s.scope = 'local' AND s.tenant IS NULL AND s.subnet = ?2 AND s.id <> ?1
               AND NOT EXISTS (SELECT 1 FROM pool_set m WHERE m.id = ?1 AND m.tenant IS NOT NULL)
               AND NOT EXISTS (SELECT 1 FROM address_record h WHERE h.set_id = ?1 AND h.key = ?3)
             ORDER BY a.granted DESC LIMIT 1",
            params![mine, Text(subnet), Key::of(address)],
            |row| Ok((row.get("id")?, get_optional(row, "network")?)),
        )
    }

    /// The number of networks of ciao-net on a pool.
    pub fn networks_on_pool(&self, pool: &Pool) -> Result<i64> {
        let networks = "SELECT count(*) FROM network_subnet WHERE set_id = ?1 AND (pool IS NULL OR pool = ?2)";
        let count = self.first(networks, params![pool.set.id, Text(&pool.pool_id)], |row| row.get(0))?;
        Ok(count.unwrap_or(0))
    }

    /// The number of networks of ciao-net on a set.
    pub fn networks_on_set(&self, set: i64) -> Result<i64> {
        let count = self.first("SELECT count(*) FROM network_subnet WHERE set_id = ?1", [set], |row| row.get(0))?;
        Ok(count.unwrap_or(0))
    }
}
