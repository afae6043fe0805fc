// SPDX-License-Identifier: Apache-2.0
//! The launchers' VNICs, which reserve addresses of their tenants.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::params;

use super::value::{Text, get, get_optional, text};
use super::{Tx, Vnic};
use crate::types::{InstanceId, LinkName, Subnet, TenantId};

impl Tx<'_> {
    /// The launcher's VNIC with that address of a tenant.
    pub fn vnic_at(&self, tenant: &TenantId, subnet: Subnet, address: IpAddr) -> Result<Option<Vnic>> {
        let v4 = "tenant = ?1 AND subnet = ?2 AND address = ?3 AND owner = 'launcher' AND state = 'live'";
        let v6 = "tenant = ?1 AND subnet6 = ?2 AND address6 = ?3 AND owner = 'launcher' AND state = 'live'";
        let at = if address.is_ipv4() { v4 } else { v6 };
        Ok(self.vnics_by(at, params![Text(tenant), Text(subnet), Text(address)])?.into_iter().next())
    }

    /// The launcher's live VNICs of an instance.
    pub fn vnics_of_instance(&self, instance: &InstanceId) -> Result<Vec<Vnic>> {
        let of_instance = "instance = ?1 AND owner = 'launcher' AND state = 'live' ORDER BY created";
        self.vnics_by(of_instance, [Text(instance)])
    }

    /// The tenants with launcher's VNICs of that subnet on a bridge of that name.
    pub fn tenants_on_bridge(&self, bridge: &LinkName, subnet: Subnet) -> Result<Vec<TenantId>> {
        self.all(
            "SELECT DISTINCT tenant FROM vnic_record
             WHERE owner = 'launcher' AND state = 'live' AND bridge = ?1 AND (subnet = ?2 OR subnet6 = ?2)",
            params![Text(bridge), Text(subnet)],
            |row| get(row, "tenant"),
        )
    }

    /// The oldest launcher's VNIC in a subnet of a tenant.
    pub fn vnic_in_subnet(&self, tenant: &TenantId, subnet: Subnet) -> Result<Option<Vnic>> {
        let oldest = "tenant = ?1 AND subnet = ?2 AND owner = 'launcher' AND state = 'live' ORDER BY created LIMIT 1";
        Ok(self.vnics_by(oldest, params![Text(tenant), Text(subnet)])?.into_iter().next())
    }

    /// The subnets of a tenant's launcher's VNICs, with the gateways of the IPv4 (or only) ones.
    pub fn launcher_subnets(&self, tenant: &TenantId) -> Result<Vec<(Subnet, Option<IpAddr>)>> {
        self.all(
            "SELECT DISTINCT subnet, gateway FROM vnic_record WHERE tenant = ?1 AND owner = 'launcher' AND state = 'live'
             UNION SELECT DISTINCT subnet6, NULL FROM vnic_record
             WHERE tenant = ?1 AND owner = 'launcher' AND state = 'live' AND subnet6 IS NOT NULL",
            [Text(tenant)],
            |row| Ok((get(row, "subnet")?, get_optional(row, "gateway")?)),
        )
    }

    /// The subnets of launchers' VNICs, of one tenant or of all.
    pub fn subnets_of_launchers(&self, tenant: Option<&TenantId>) -> Result<Vec<Subnet>> {
        self.all(
            "SELECT DISTINCT subnet FROM vnic_record WHERE (?1 IS NULL OR tenant = ?1) AND owner = 'launcher' AND state = 'live' AND subnet <> ''
             UNION SELECT DISTINCT subnet6 FROM vnic_record
             WHERE (?1 IS NULL OR tenant = ?1) AND owner = 'launcher' AND state = 'live' AND subnet6 IS NOT NULL",
            params![text(tenant)],
            |row| get(row, "subnet"),
        )
    }
}
