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
    /// `gateway`, `pending`, `bound`, `aux`, `granted` or `reserved`.
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

/// Whether `a`, an address record of the set `s`, is a lease of a network of ciao-net that no endpoint has.
macro_rules! abandoned {
    () => {
        "a.kind = 'lease' AND s.scope = 'local'
         AND EXISTS (SELECT 1 FROM network_subnet n WHERE n.set_id = s.id)
         AND NOT EXISTS (SELECT 1 FROM network_subnet n JOIN endpoint_record e
                         ON e.network = n.network AND (e.address = a.address OR e.address6 = a.address) WHERE n.set_id = s.id)
         -- Which of two sets without tenant a network is on may still be undecided: an endpoint on either counts.
         AND NOT (s.tenant IS NULL
                  AND EXISTS (SELECT 1 FROM network_subnet n JOIN pool_set o ON o.id = n.set_id AND o.tenant IS NULL
                              JOIN endpoint_record e ON e.network = n.network AND (e.address = a.address OR e.address6 = a.address)
                              WHERE n.subnet = s.subnet))
         AND NOT EXISTS (SELECT 1 FROM network_subnet n, json_each(n.aux) x WHERE n.set_id = s.id AND x.value = a.address)"
    };
}

/// Whether one lease is abandoned.
pub(super) const IS_ABANDONED: &str = concat!(
    "SELECT 1 FROM address_record a JOIN pool_set s ON s.id = a.set_id
     WHERE a.set_id = ?1 AND a.key = ?2 AND a.granted < ?3 AND ",
    abandoned!()
);

/// A page of the table with which of them are abandoned and not known to be.
pub(super) const NEWLY_ABANDONED: &str = concat!(
    "SELECT s.id, s.scope, s.tenant, s.subnet, a.address, (a.unclaimed IS NULL AND a.granted < ?3 AND ",
    abandoned!(),
    ") AS newly FROM address_record a JOIN pool_set s ON s.id = a.set_id
     WHERE (a.set_id, a.key) > (?1, ?2) ORDER BY a.set_id, a.key LIMIT ?4"
);

// Left to itself, SQLite takes the primary key for these, and so all addresses of a set: INDEXED BY.

/// The gateway of a set.
pub(super) const GATEWAY_OF_SET: &str =
    "SELECT address FROM address_record INDEXED BY address_gateway WHERE set_id = ?1 AND kind = 'gateway'";

/// Leases of a set that are known to be nobody's for some time.
pub(super) const UNCLAIMED_OF_SET: &str = "SELECT address FROM address_record INDEXED BY address_unclaimed
     WHERE set_id = ?1 AND unclaimed <= ?2 ORDER BY unclaimed LIMIT ?3";

/// The same of all sets, and leases that were claimed after all. CROSS JOIN: a search for each set, in that order.
pub(super) const UNCLAIMED: &str = concat!(
    "SELECT s.id, s.scope, s.tenant, s.subnet, a.address FROM pool_set s
     CROSS JOIN address_record a INDEXED BY address_unclaimed ON a.set_id = s.id
     WHERE a.unclaimed IS NOT NULL AND (a.unclaimed <= ?1 OR NOT (",
    abandoned!(),
    ")) LIMIT ?2"
);

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
            "SELECT kind, held, granted, unclaimed FROM address_record WHERE set_id = ?1 AND key = ?2",
            params![set.id, Key::of(address)],
            |row| {
                let kind = row.get::<_, Text<_>>(0)?.0;
                Ok(Held { kind, held: row.get(1)?, granted: row.get(2)?, unclaimed: row.get(3)? })
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
            "INSERT INTO address_record (set_id, key, address, pool, kind, held, granted) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)
             ON CONFLICT DO UPDATE SET pool = excluded.pool, kind = excluded.kind, held = held + 1, granted = excluded.granted, unclaimed = NULL",
            params![pool.set.id, Key::of(address), Text(address), pool.id, Text(kind), now()],
        )
        .map(drop)
    }

    /// Grants an abandoned lease anew.
    ///
    /// # Errors
    /// The disk's.
    pub fn regrant(&self, pool: &Pool, address: IpAddr) -> Result<()> {
        self.change(
            "UPDATE address_record SET pool = ?3, granted = ?4, unclaimed = NULL WHERE set_id = ?1 AND key = ?2",
            params![pool.set.id, Key::of(address), pool.id, now()],
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

    /// Forgets that an address was taken. The caller gives it back to the free runs.
    ///
    /// # Errors
    /// The disk's.
    pub fn delete_address(&self, set: &PoolSet, address: IpAddr) -> Result<()> {
        self.change("DELETE FROM address_record WHERE set_id = ?1 AND key = ?2", params![set.id, Key::of(address)])
            .map(drop)
    }

    /// The gateway that a set's networks share so far.
    ///
    /// # Errors
    /// The disk's.
    pub fn gateway_of(&self, set: &PoolSet) -> Result<Option<IpAddr>> {
        self.first(GATEWAY_OF_SET, [set.id], |row| Ok(row.get::<_, Text<IpAddr>>(0)?.0))
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

    /// Whether an address is a lease of a network of ciao-net that was granted before `before` and that no endpoint has
    /// claimed; an auxiliary address is none.
    ///
    /// # Errors
    /// The disk's.
    pub fn is_abandoned(&self, set: &PoolSet, address: IpAddr, before: i64) -> Result<bool> {
        Ok(self.first(IS_ABANDONED, params![set.id, Key::of(address), before], |_| Ok(()))?.is_some())
    }

    /// The next `most` taken addresses after one of a set, each with whether it [is abandoned](Self::is_abandoned) and
    /// not yet known to be nobody's. Only a look at all finds these: what an endpoint does is not recorded here.
    ///
    /// # Errors
    /// The disk's.
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

    /// Records that a lease is known to be nobody's from now on.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_unclaimed(&self, set: &PoolSet, address: IpAddr) -> Result<()> {
        self.change(
            "UPDATE address_record SET unclaimed = ?3 WHERE set_id = ?1 AND key = ?2 AND unclaimed IS NULL",
            params![set.id, Key::of(address), now()],
        )
        .map(drop)
    }

    /// Forgets so of a lease that was claimed after all.
    ///
    /// # Errors
    /// The disk's.
    pub fn forget_unclaimed(&self, set: &PoolSet, address: IpAddr) -> Result<()> {
        self.change(
            "UPDATE address_record SET unclaimed = NULL WHERE set_id = ?1 AND key = ?2",
            params![set.id, Key::of(address)],
        )
        .map(drop)
    }

    /// The first `most` leases of a set that are known to be nobody's since `until` or longer, longest first.
    ///
    /// # Errors
    /// The disk's.
    pub fn unclaimed_of_set(&self, set: &PoolSet, until: i64, most: usize) -> Result<Vec<IpAddr>> {
        self.all(UNCLAIMED_OF_SET, params![set.id, until, i64::try_from(most)?], |row| get(row, "address"))
    }

    /// `most` of such leases of all sets, and of those that were known to be nobody's and are claimed after all.
    ///
    /// # Errors
    /// The disk's.
    pub fn unclaimed(&self, until: i64, most: usize) -> Result<Vec<(PoolSet, IpAddr)>> {
        self.all(UNCLAIMED, params![until, i64::try_from(most)?], |row| {
            Ok((pool_set(row, "id")?, get(row, "address")?))
        })
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
