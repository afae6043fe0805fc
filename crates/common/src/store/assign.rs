// SPDX-License-Identifier: Apache-2.0
//! Assigning a set that was requested without a tenant to a tenant.
//!
//! Docker passes the options of a network only to the network driver, so the tenant of a pool may be known only when
//! the network is created. ciao-net then changes ciao-ipam's tables, in the transaction that records the network.

use std::net::IpAddr;

use anyhow::{Result, bail, ensure};

use super::value::{Text, get};
use super::{AddressKind, Pool, PoolSet, Tx};
use crate::types::TenantId;

impl Tx<'_> {
    /// Assigns the set of a pool without tenant to a tenant, or merges it into the tenant's set of that subnet.
    ///
    /// # Errors
    /// The tenant has an overlapping pool, or one of the pool's addresses is in use there.
    pub fn assign_pool(&self, pool: &Pool, tenant: &TenantId) -> Result<PoolSet> {
        let set = &pool.set;
        let touching = self.pool_sets_touching(set.scope, Some(tenant), set.subnet)?;
        if let Some(other) = touching.iter().find(|other| other.subnet != set.subnet) {
            bail!(
                "pool {} overlaps pool {} of tenant {tenant}: give another subnet, or another tenant",
                set.subnet,
                other.subnet
            );
        }
        let granted = self.granted(set)?;
        for (address, _, _) in granted.iter().filter(|(_, kind, _)| *kind == AddressKind::Gateway) {
            let vnic = self.vnic_at(tenant, set.subnet, *address)?;
            let instance = vnic.and_then(|vnic| vnic.instance);
            ensure!(
                instance.is_none(),
                "gateway {address} is reserved for instance {} of tenant {tenant}: give another --gateway",
                instance.as_ref().map_or("", |instance| instance.as_str())
            );
        }
        let claimed = PoolSet { tenant: Some(tenant.clone()), ..set.clone() };
        match touching.into_iter().next() {
            None => {
                self.change("UPDATE pool_set SET tenant = ?2 WHERE id = ?1", rusqlite::params![set.id, Text(tenant)])?;
                Ok(claimed)
            }
            Some(own) => {
                self.merge(pool, &own, &granted)?;
                Ok(own)
            }
        }
    }

    fn merge(&self, pool: &Pool, own: &PoolSet, granted: &[(IpAddr, AddressKind, i64)]) -> Result<()> {
        let theirs = Pool { set: own.clone(), ..pool.clone() };
        self.change("UPDATE pool_record SET set_id = ?2 WHERE set_id = ?1", [pool.set.id, own.id])?;
        for (address, kind, times) in granted {
            match self.address(own, *address)?.map(|held| held.kind) {
                None => {
                    ensure!(
                        self.take(own, *address)?,
                        "internal error (please report): {address} of {} is neither free nor allocated",
                        own.subnet
                    );
                }
                Some(AddressKind::Reserved) => {}
                Some(AddressKind::Gateway) if *kind == AddressKind::Gateway => {}
                Some(_) => bail!(
                    "{} {address} of the network is in use in pool {} of tenant {}: give another one, see \"ciao-ipam lease list\"",
                    if *kind == AddressKind::Gateway { "gateway" } else { "auxiliary address" },
                    own.subnet,
                    own.tenant.as_ref().map_or("", |tenant| tenant.as_str())
                ),
            }
            for _ in 0..*times {
                self.grant(&theirs, *address, *kind)?;
            }
        }
        self.change("DELETE FROM pool_set WHERE id = ?1", [pool.set.id])
    }

    /// The granted addresses of a set, with kind and reference count.
    fn granted(&self, set: &PoolSet) -> Result<Vec<(IpAddr, AddressKind, i64)>> {
        self.all("SELECT address, kind, held FROM address_record WHERE set_id = ?1 AND held > 0", [set.id], |row| {
            Ok((get(row, "address")?, get(row, "kind")?, row.get("held")?))
        })
    }
}
