// SPDX-License-Identifier: Apache-2.0
//! The use of bridges and namespaces by networks and VNICs.

use anyhow::Result;
use rusqlite::params;

use super::Tx;
use super::value::{Text, get};
use crate::types::{LinkName, TenantId};

impl Tx<'_> {
    /// Whether a tenant has a network or a VNIC on a bridge of the host.
    pub fn is_tenant_on_host_bridge(&self, tenant: Option<&TenantId>, bridge: &LinkName) -> Result<bool> {
        let Some(tenant) = tenant else { return Ok(false) };
        let has = |owner: &Option<TenantId>| owner.as_ref() == Some(tenant);
        let networks = self.networks_on_bridge(None, bridge)?;
        let vnics = self.vnics_on_bridge(None, bridge)?;
        Ok(networks.iter().any(|network| has(&network.tenant)) || vnics.iter().any(|vnic| has(&vnic.tenant)))
    }

    /// Whether the networks on a bridge are secured, all of them, and whether one keeps its containers from each other.
    pub fn restrictions_on_bridge(&self, namespace: Option<&str>, bridge: &LinkName) -> Result<(bool, bool)> {
        let found = self.first(
            "SELECT coalesce(min(secured), 1), coalesce(min(icc), 1) = 0 FROM network_record WHERE namespace IS ?1 AND bridge = ?2",
            params![namespace, Text(bridge)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(found.unwrap_or((true, false)))
    }

    /// Whether a network or live VNIC uses a bridge.
    pub fn is_bridge_used(&self, namespace: &str, bridge: &LinkName) -> Result<bool> {
        self.exists(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM network_record WHERE namespace = ?1 AND bridge = ?2)
             OR EXISTS (SELECT 1 FROM vnic_record WHERE namespace = ?1 AND bridge = ?2 AND state = 'live')",
            params![namespace, Text(bridge)],
        )
    }

    /// The bridges of the host that a network or live VNIC uses.
    pub fn host_bridges(&self) -> Result<Vec<LinkName>> {
        self.all(
            "SELECT bridge FROM network_record WHERE namespace IS NULL
             UNION SELECT bridge FROM vnic_record WHERE namespace IS NULL AND state = 'live'",
            [],
            |row| get(row, "bridge"),
        )
    }

    /// Whether a network or live VNIC is in a namespace.
    pub fn is_namespace_used(&self, namespace: &str) -> Result<bool> {
        self.exists(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM network_record WHERE namespace = ?1)
             OR EXISTS (SELECT 1 FROM vnic_record WHERE namespace = ?1 AND state = 'live')",
            [namespace],
        )
    }
}
