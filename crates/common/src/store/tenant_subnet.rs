// SPDX-License-Identifier: Apache-2.0
//! Tables `tenant_subnet` and `tenant_cnci`: a tenant's subnets on all hosts, and the hosts by which its packets leave,
//! as its controller gives them; and subnets as hosts announce them, by their gateways.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Tx;
use super::value::{Text, get};
use crate::types::{Address, HostId, MacAddr, Mtu, Subnet, TenantId, fnv1a};

/// A subnet of a tenant, on whichever hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantSubnet {
    /// The subnet.
    pub subnet: Subnet,
    /// VXLAN network identifier of its network.
    #[schema(minimum = 1, maximum = 16_777_215)]
    pub vni: u32,
    /// Its gateway, the same on every host.
    #[schema(value_type = Address)]
    pub gateway: IpAddr,
    /// Of its network, in bytes; absent: what the hosts' links carry.
    #[serde(default)]
    pub mtu: Option<Mtu>,
}

impl TenantSubnet {
    /// For the digest of a list.
    pub(super) fn hash(&self) -> u64 {
        let mtu = self.mtu.map_or(0, Mtu::bytes);
        fnv1a(format!("{} {} {} {mtu}", self.subnet, self.vni, self.gateway).as_bytes())
    }
}

fn given(row: &Row<'_>) -> rusqlite::Result<TenantSubnet> {
    Ok(TenantSubnet {
        subnet: get(row, "subnet")?,
        vni: row.get("vni")?,
        gateway: get(row, "gateway")?,
        mtu: row.get("mtu")?,
    })
}

/// Hosts that announce their addresses have no controller: what a former one gave counts no more.
const HAS_CONTROLLER: &str = "NOT EXISTS (SELECT 1 FROM generation_record WHERE list LIKE '@%')";

impl Tx<'_> {
    /// A tenant's subnets, as its controller gives them.
    pub fn tenant_subnets(&self, tenant: &TenantId) -> Result<Vec<TenantSubnet>> {
        let sql = format!(
            "SELECT subnet, vni, gateway, mtu FROM tenant_subnet WHERE tenant = ?1 AND {HAS_CONTROLLER}
             ORDER BY vni, subnet"
        );
        self.all(&sql, [Text(tenant)], given)
    }

    pub(super) fn set_tenant_subnets(&self, tenant: &TenantId, subnets: &[TenantSubnet]) -> Result<()> {
        self.change("DELETE FROM tenant_subnet WHERE tenant = ?1", [Text(tenant)])?;
        subnets.iter().try_for_each(|TenantSubnet { subnet, vni, gateway, mtu }| {
            self.change(
                "INSERT INTO tenant_subnet (tenant, subnet, vni, gateway, mtu) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![Text(tenant), Text(subnet), vni, Text(gateway), mtu],
            )
        })
    }

    /// The hosts by which a tenant's packets leave, in their order.
    pub fn cnci(&self, tenant: &TenantId) -> Result<Vec<HostId>> {
        let sql = format!("SELECT host FROM tenant_cnci WHERE tenant = ?1 AND {HAS_CONTROLLER} ORDER BY rank");
        self.all(&sql, [Text(tenant)], |row| get(row, "host"))
    }

    /// The tenants whose packets leave by a host.
    pub fn tenants_of_cnci(&self) -> Result<Vec<TenantId>> {
        let sql = format!("SELECT DISTINCT tenant FROM tenant_cnci WHERE {HAS_CONTROLLER} ORDER BY tenant");
        self.all(&sql, [], |row| get(row, "tenant"))
    }

    pub(super) fn set_cnci(&self, tenant: &TenantId, hosts: &[HostId]) -> Result<()> {
        self.change("DELETE FROM tenant_cnci WHERE tenant = ?1", [Text(tenant)])?;
        (0..).zip(hosts).try_for_each(|(rank, host): (u32, _)| {
            let insert = "INSERT INTO tenant_cnci (tenant, rank, host) VALUES (?1, ?2, ?3)";
            self.change(insert, params![Text(tenant), rank, Text(host)])
        })
    }

    /// A tenant's subnets, as other hosts announce them: the earliest announcement of each first.
    pub fn announced_subnets(&self, tenant: &TenantId) -> Result<Vec<(HostId, TenantSubnet)>> {
        let sql = "SELECT host, mac, subnet, vni, address AS gateway, NULL AS mtu FROM peer_record
             WHERE tenant = ?1 AND mac LIKE '0e:c1:a0:%' ORDER BY told, host";
        let row = |row: &Row<'_>| Ok((get::<MacAddr>(row, "mac")?, (get(row, "host")?, given(row)?)));
        let mut rows: Vec<(MacAddr, (HostId, TenantSubnet))> = self.all(sql, [Text(tenant)], row)?;
        rows.retain(|(mac, (_, one))| *mac == MacAddr::gateway(one.vni));
        Ok(rows.into_iter().map(|(_, announced)| announced).collect())
    }
}
