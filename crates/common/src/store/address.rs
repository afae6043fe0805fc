// SPDX-License-Identifier: Apache-2.0
//! Table `address_record`: the addresses of a set that are taken, by whom and since when.
//!
//! Whether an endpoint has an address, or a launcher's VNIC reserves it, stands in ciao-net's tables: it is looked
//! up there when it matters and never copied.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Result, bail};
use rusqlite::params;
use serde::Serialize;

use super::pool::pool_set;
use super::value::{Key, Text, get, get_optional};
use super::{Pool, PoolSet, Tx, now};
use crate::types::{Family, InstanceId, TenantId};

/// Why an address is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// Granted on request.
    Lease,
    /// Granted as a network's gateway; counted, as networks on a shared pool may share it.
    Gateway,
    /// Granted to nobody, and kept for the instance that a launcher assigned it to.
    Reserved,
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lease => "lease",
            Self::Gateway => "gateway",
            Self::Reserved => "reserved",
        })
    }
}

impl FromStr for AddressKind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "lease" => Ok(Self::Lease),
            "gateway" => Ok(Self::Gateway),
            "reserved" => Ok(Self::Reserved),
            _ => bail!("unknown kind {text:?}"),
        }
    }
}

/// A taken address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Why.
    pub kind: AddressKind,
    /// How often it was granted and not released.
    pub held: i64,
    /// When last, in milliseconds since 1970.
    pub granted: i64,
    /// Since when it is known to be nobody's.
    pub unclaimed: Option<i64>,
    /// The leadership that granted it, if its set is global.
    pub term: i64,
}

/// A line of the list of leases. All text is as view `lease` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct LeaseRow {
    /// Whose.
    pub tenant: Option<TenantId>,
    /// The subnet it is of.
    pub subnet: String,
    /// The address.
    pub address: IpAddr,
    /// `gateway`, `pending`, `bound`, `aux`, `granted`, `reserved` or `former`.
    pub state: String,
    /// The instance that a launcher assigned it to.
    pub instance: Option<InstanceId>,
    /// Docker's endpoint that has it, twelve characters.
    pub endpoint: Option<String>,
    /// Docker's network on its set of addresses, twelve characters; the first of several.
    pub network: Option<String>,
    /// `local` or `global`.
    pub space: String,
    /// UTC.
    pub since: String,
}

// Left to itself, SQLite takes the primary key for these, and so all addresses of a set: INDEXED BY.

/// The addresses of a set that are kept for instances.
pub(super) const RESERVED_OF_SET: &str =
    "SELECT address FROM address_record INDEXED BY address_kept WHERE set_id = ?1 AND kind = 'reserved'";

/// The same of all sets.
pub(super) const RESERVED: &str = "SELECT s.id, s.scope, s.tenant, s.subnet, a.address FROM pool_set s
     CROSS JOIN address_record a INDEXED BY address_kept ON a.set_id = s.id WHERE a.kind = 'reserved'";

impl Tx<'_> {
    /// What is known of a taken address; `None`: it is free.
    ///
    /// # Errors
    /// The disk's.
    pub fn address(&self, set: &PoolSet, address: IpAddr) -> Result<Option<Held>> {
        self.first(
            "SELECT kind, held, granted, unclaimed, term FROM address_record WHERE set_id = ?1 AND key = ?2",
            params![set.id, Key::of(address)],
            |row| {
                let kind = row.get::<_, Text<_>>(0)?.0;
                Ok(Held { kind, held: row.get(1)?, granted: row.get(2)?, unclaimed: row.get(3)?, term: row.get(4)? })
            },
        )
    }

    /// Records that an address was granted through `pool` once more, as a lease or a gateway. The caller has taken
    /// it out of the free runs, or found it recorded.
    ///
    /// # Errors
    /// The disk's; a lease that is granted already.
    pub fn grant(&self, pool: &Pool, address: IpAddr, kind: AddressKind) -> Result<()> {
        self.change(
            "INSERT INTO address_record (set_id, key, address, pool, kind, held, granted, term) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7)
             ON CONFLICT DO UPDATE SET pool = excluded.pool, kind = excluded.kind, held = held + 1, granted = excluded.granted,
             unclaimed = NULL, term = excluded.term",
            params![pool.set.id, Key::of(address), Text(address), pool.id, Text(kind), now(), pool.term],
        )
        .map(drop)
    }

    /// Grants an address again whose holder is gone, as a lease or a gateway, once.
    ///
    /// # Errors
    /// The disk's.
    pub fn regrant(&self, pool: &Pool, address: IpAddr, kind: AddressKind) -> Result<()> {
        self.change(
            "UPDATE address_record SET pool = ?3, kind = ?4, held = 1, granted = ?5, unclaimed = NULL, term = ?6 WHERE set_id = ?1 AND key = ?2",
            params![pool.set.id, Key::of(address), pool.id, Text(kind), now(), pool.term],
        )
        .map(drop)
    }

    /// Records that an address is kept for an instance and granted to nobody.
    ///
    /// # Errors
    /// The disk's.
    pub fn reserve(&self, set: &PoolSet, address: IpAddr) -> Result<()> {
        self.change(
            "INSERT INTO address_record (set_id, key, address, pool, kind, held, granted) VALUES (?1, ?2, ?3, NULL, 'reserved', 0, ?4)
             ON CONFLICT DO UPDATE SET pool = NULL, kind = 'reserved', held = 0, granted = excluded.granted, unclaimed = NULL",
            params![set.id, Key::of(address), Text(address), now()],
        )
        .map(drop)
    }

    /// Forgets that an address was taken. The caller gives it back to the free runs.
    ///
    /// # Errors
    /// The disk's.
    pub fn delete_address(&self, set: &PoolSet, address: IpAddr) -> Result<()> {
        self.change("DELETE FROM address_record WHERE set_id = ?1 AND key = ?2", params![set.id, Key::of(address)])
            .map(drop)
    }

    /// The leases granted through a pool, as numbers.
    ///
    /// # Errors
    /// The disk's.
    pub fn leases_of_pool(&self, pool: &Pool) -> Result<Vec<u128>> {
        self.all("SELECT key FROM address_record WHERE pool = ?1 AND kind = 'lease'", [pool.id], |row| {
            Ok(row.get::<_, Key>(0)?.number())
        })
    }

    /// The tenant whose launcher may have reserved addresses of this set: the set's own, or that of the network on it.
    ///
    /// # Errors
    /// The disk's.
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

    /// Whether an endpoint of ciao-net has the address.
    ///
    /// # Errors
    /// The disk's.
    pub fn is_bound(&self, set: &PoolSet, address: IpAddr) -> Result<bool> {
        let column = match Family::of(address) {
            Family::V4 => "address",
            Family::V6 => "address6",
        };
        let sql = format!(
            "SELECT 1 FROM network_subnet s JOIN endpoint_record e ON e.network = s.network AND e.{column} = ?2 WHERE s.set_id = ?1 LIMIT 1"
        );
        Ok(self.first(&sql, params![set.id, Text(address)], |_| Ok(()))?.is_some())
    }

    /// Addresses of a set that are kept for instances; their VNICs may be gone by now.
    ///
    /// # Errors
    /// The disk's.
    pub fn reserved_of_set(&self, set: &PoolSet) -> Result<Vec<IpAddr>> {
        self.all(RESERVED_OF_SET, [set.id], |row| get(row, "address"))
    }

    /// Such addresses of all sets.
    ///
    /// # Errors
    /// The disk's.
    pub fn reserved(&self) -> Result<Vec<(PoolSet, IpAddr)>> {
        self.all(RESERVED, [], |row| Ok((pool_set(row, "id")?, get(row, "address")?)))
    }

    /// Every lease, reservation and gateway, for people.
    ///
    /// # Errors
    /// The disk's.
    pub fn leases(&self) -> Result<Vec<LeaseRow>> {
        self.all("SELECT * FROM lease", [], |row| {
            Ok(LeaseRow {
                tenant: get_optional(row, "tenant")?,
                subnet: row.get("subnet")?,
                address: row.get::<_, Text<IpAddr>>("address")?.0,
                state: row.get("state")?,
                instance: get_optional(row, "instance")?,
                endpoint: row.get("endpoint")?,
                network: row.get("network")?,
                space: row.get("space")?,
                since: row.get("since")?,
            })
        })
    }
}
