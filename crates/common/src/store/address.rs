// SPDX-License-Identifier: Apache-2.0
//! Table `address_record`: the allocated addresses of a set.
//!
//! Whether an endpoint uses an address, or a launcher's VNIC reserves it, is recorded in ciao-net's tables, looked up
//! there, and never copied.

use std::net::IpAddr;

use anyhow::{Context, Result};
use rusqlite::params;

use super::memory::SetUse;
use super::pool_set::pool_set;
use super::value::{Key, Text, get, get_optional, text};
use super::{AddressKind, Pool, PoolSet, Tx};
use crate::types::{Family, TenantId};

/// The record of an allocated address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRecord {
    /// Why it is allocated.
    pub kind: AddressKind,
    /// Reference count: grants that were not released.
    pub held: i64,
    /// Time of the last grant, in milliseconds since 1970.
    pub granted: i64,
    /// Since when the lease is known to be orphaned.
    pub unclaimed: Option<i64>,
    /// The leadership that granted it, if the set is global.
    pub term: i64,
}

// INDEXED BY: SQLite would choose the primary key here, and so visit all addresses of a set.

/// The reserved addresses of a set.
pub(super) const RESERVED_OF_SET: &str =
    "SELECT address FROM address_record INDEXED BY address_kept WHERE set_id = ?1 AND kind = 'reserved'";

/// The reserved addresses of all sets.
pub(super) const RESERVED: &str = "SELECT s.id, s.scope, s.tenant, s.subnet, a.address FROM pool_set s
     CROSS JOIN address_record a INDEXED BY address_kept ON a.set_id = s.id WHERE a.kind = 'reserved'";

/// Whether a network is on a set, and whether its tenant's launcher has a VNIC with an address of its subnet.
const USE_OF_SET: &str =
    "SELECT EXISTS (SELECT 1 FROM network_subnet WHERE set_id = ?1), EXISTS (SELECT 1 FROM vnic_record
         WHERE tenant = t.tenant AND subnet = ?3 AND owner = 'launcher' AND state = 'live') OR EXISTS (SELECT 1 FROM vnic_record
         WHERE tenant = t.tenant AND subnet6 = ?3 AND owner = 'launcher' AND state = 'live')
     FROM (SELECT coalesce(?2, (SELECT n.tenant FROM network_subnet s JOIN network_record n ON n.id = s.network
                                WHERE s.set_id = ?1 LIMIT 1)) AS tenant) t";

impl Tx<'_> {
    /// The record of an address; `None`: it is free.
    pub fn address(&self, set: &PoolSet, address: IpAddr) -> Result<Option<AddressRecord>> {
        self.first(
            "SELECT kind, held, granted, unclaimed, term FROM address_record WHERE set_id = ?1 AND key = ?2",
            params![set.id, Key::of(address)],
            |row| {
                let kind = row.get::<_, Text<_>>(0)?.0;
                Ok(AddressRecord {
                    kind,
                    held: row.get(1)?,
                    granted: row.get(2)?,
                    unclaimed: row.get(3)?,
                    term: row.get(4)?,
                })
            },
        )
    }

    /// Records one more grant of an address through `pool`, as a lease or a gateway. The caller has removed the address
    /// from the free ranges, unless it was recorded already.
    ///
    /// # Errors
    /// The address is a lease.
    pub fn grant(&self, pool: &Pool, address: IpAddr, kind: AddressKind) -> Result<()> {
        self.change(
            "INSERT INTO address_record (set_id, key, address, pool, kind, held, granted, term) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7)
             ON CONFLICT DO UPDATE SET pool = excluded.pool, kind = excluded.kind, held = held + 1, granted = excluded.granted,
             unclaimed = NULL, term = excluded.term",
            params![pool.set.id, Key::of(address), Text(address), pool.id, Text(kind), self.now(), pool.term],
        )?;
        self.record_lease("lease", &pool.set, address)
    }

    /// Grants an address whose holder is gone to a new one, with reference count 1.
    pub fn regrant(&self, pool: &Pool, address: IpAddr, kind: AddressKind) -> Result<()> {
        self.record_lease("release", &pool.set, address)?;
        self.change(
            "UPDATE address_record SET pool = ?3, kind = ?4, held = 1, granted = ?5, unclaimed = NULL, term = ?6 WHERE set_id = ?1 AND key = ?2",
            params![pool.set.id, Key::of(address), pool.id, Text(kind), self.now(), pool.term],
        )?;
        self.record_lease("lease", &pool.set, address)
    }

    /// Records that an address is reserved for an instance and not granted.
    pub fn reserve(&self, set: &PoolSet, address: IpAddr) -> Result<()> {
        self.record_lease("release", set, address)?;
        self.change(
            "INSERT INTO address_record (set_id, key, address, pool, kind, held, granted) VALUES (?1, ?2, ?3, NULL, 'reserved', 0, ?4)
             ON CONFLICT DO UPDATE SET pool = NULL, kind = 'reserved', held = 0, granted = excluded.granted, unclaimed = NULL",
            params![set.id, Key::of(address), Text(address), self.now()],
        )
    }

    /// Deletes the record of an address. The caller adds it to the free ranges.
    pub fn delete_address(&self, set: &PoolSet, address: IpAddr) -> Result<()> {
        self.record_lease("release", set, address)?;
        self.change("DELETE FROM address_record WHERE set_id = ?1 AND key = ?2", params![set.id, Key::of(address)])
    }

    /// Deletes the record of a lease that nobody has to be told of. The caller adds it to the free ranges. `false`: it
    /// is no lease, or is an event.
    pub fn delete_lease(&self, set: &PoolSet, address: IpAddr) -> Result<bool> {
        let lease = "DELETE FROM address_record WHERE set_id = ?1 AND key = ?2 AND kind = 'lease'";
        Ok(self.use_of(set)?.network && self.changed(lease, params![set.id, Key::of(address)])? == 1)
    }

    /// The leases of a pool, as numbers.
    pub fn leases_of_pool(&self, pool: &Pool) -> Result<Vec<u128>> {
        let sql = "SELECT key FROM address_record WHERE set_id = ?1 AND pool = ?2 AND kind = 'lease'";
        self.all(sql, [pool.set.id, pool.id], |row| Ok(row.get::<_, Key>(0)?.number()))
    }

    /// The tenant whose launcher may have reserved addresses of this set: the set's, or that of its network.
    pub fn tenant_of_set(&self, set: &PoolSet) -> Result<Option<TenantId>> {
        if set.tenant.is_some() {
            return Ok(set.tenant.clone());
        }
        let tenant = self.first(
            "SELECT n.tenant FROM network_subnet s JOIN network_record n ON n.id = s.network WHERE s.set_id = ?1 LIMIT 1",
            [set.id],
            |row| get_optional(row, "tenant"),
        )?;
        Ok(tenant.flatten())
    }

    /// Whether a launcher may have reserved addresses of this set: it has VNICs with one of its subnet.
    pub fn has_reservations(&self, set: &PoolSet) -> Result<bool> {
        Ok(self.use_of(set)?.launcher)
    }

    pub(super) fn use_of(&self, set: &PoolSet) -> Result<SetUse> {
        self.memory.set_use(set.id, || {
            let found =
                self.first(USE_OF_SET, params![set.id, text(set.tenant.as_ref()), Text(set.subnet)], |row| {
                    Ok(SetUse { network: row.get(0)?, launcher: row.get(1)? })
                })?;
            found.context("internal error (please report): a row is missing")
        })
    }

    /// Whether an endpoint of ciao-net uses the address.
    pub fn is_bound(&self, set: &PoolSet, address: IpAddr) -> Result<bool> {
        let column = match Family::of(address) {
            Family::V4 => "address",
            Family::V6 => "address6",
        };
        let sql = format!(
            "SELECT 1 FROM network_subnet s JOIN endpoint_record e ON e.network = s.network AND e.{column} = ?2 WHERE s.set_id = ?1 LIMIT 1"
        );
        self.exists(&sql, params![set.id, Text(address)])
    }

    /// The reserved addresses of a set. Their VNICs may have been deleted since.
    pub fn reserved_of_set(&self, set: &PoolSet) -> Result<Vec<IpAddr>> {
        self.all(RESERVED_OF_SET, [set.id], |row| get(row, "address"))
    }

    /// The reserved addresses of all sets.
    pub fn reserved(&self) -> Result<Vec<(PoolSet, IpAddr)>> {
        self.all(RESERVED, [], |row| Ok((pool_set(row, "id")?, get(row, "address")?)))
    }
}
