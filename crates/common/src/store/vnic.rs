// SPDX-License-Identifier: Apache-2.0
//! Table `vnic_record`: the veth pairs created by ciao-net.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::{Params, Row, params};

use super::value::{Json, Text, get, get_optional, text};
use super::{Owner, Tx};
use crate::types::{InstanceId, LinkName, MacAddr, Mtu, NetworkId, Rate, Subnet, TenantId, VnicId};

/// A VNIC: a veth pair, one end for a container, the other on a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vnic {
    /// The id.
    pub id: VnicId,
    /// Who deletes it.
    pub owner: Owner,
    /// The tenant; `None`: of a network without tenant.
    pub tenant: Option<TenantId>,
    /// The network, if the owner is Docker.
    pub network: Option<NetworkId>,
    /// The instance, if the owner is the launcher.
    pub instance: Option<InstanceId>,
    /// Subnet and address. Always present if the owner is the launcher.
    pub v4: Option<(Subnet, IpAddr)>,
    /// Second pair for dual stack.
    pub v6: Option<(Subnet, IpAddr)>,
    /// MAC address of the container's end.
    pub mac: MacAddr,
    /// Gateway of the Docker network, if the owner is the launcher.
    pub gateway: Option<IpAddr>,
    /// MTU; `None`: the kernel's default.
    pub mtu: Option<Mtu>,
    /// Network namespace of the bridge; `None`: the host's.
    pub namespace: Option<String>,
    /// Bridge of the other end.
    pub bridge: LinkName,
    /// Additional source addresses.
    pub allowed: Vec<IpAddr>,
    /// Rate limit per direction.
    pub rate: Option<Rate>,
    /// Name of the Docker network, if the owner is the launcher.
    pub network_name: Option<String>,
    /// Name of the container's end, in the host's namespace until Docker moves it.
    pub container_link: LinkName,
    /// Name of the end on the bridge.
    pub host_link: LinkName,
}

pub(super) const VNIC: &str =
    "SELECT id, owner, tenant, network, instance, subnet, address, subnet6, address6, mac, gateway, mtu,
     namespace, bridge, allowed, rate, network_name, container_link, host_link FROM vnic_record";

/// A row of [`VNIC`], by number: a column's name costs some 500 instructions.
pub(super) fn vnic(row: &Row<'_>) -> rusqlite::Result<Vnic> {
    let v4 = match get_optional(row, 6)? {
        Some(address) => Some((get(row, 5)?, address)),
        None => None,
    };
    Ok(Vnic {
        id: get(row, 0)?,
        owner: get(row, 1)?,
        tenant: get_optional(row, 2)?,
        network: get_optional(row, 3)?,
        instance: get_optional(row, 4)?,
        v4,
        v6: get_optional(row, 7)?.zip(get_optional(row, 8)?),
        mac: get(row, 9)?,
        gateway: get_optional(row, 10)?,
        mtu: row.get(11)?,
        namespace: row.get(12)?,
        bridge: get(row, 13)?,
        allowed: row.get::<_, Json<_>>(14)?.0,
        rate: get_optional(row, 15)?,
        network_name: row.get(16)?,
        container_link: get(row, 17)?,
        host_link: get(row, 18)?,
    })
}

impl Vnic {
    /// The addresses, without subnets.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [self.v4, self.v6].into_iter().flatten().map(|(_, address)| address)
    }
}

impl Tx<'_> {
    /// The live VNIC with that id.
    pub fn vnic(&self, id: &VnicId) -> Result<Option<Vnic>> {
        Ok(self.vnics_by("id = ?1 AND state = 'live'", [Text(id)])?.into_iter().next())
    }

    /// All live VNICs, of one tenant or of all, oldest first.
    pub fn vnics(&self, tenant: Option<&TenantId>) -> Result<Vec<Vnic>> {
        self.vnics_by("state = 'live' AND (?1 IS NULL OR tenant = ?1) ORDER BY created, id", [text(tenant)])
    }

    /// The live VNICs on a bridge with that MAC address.
    pub fn vnics_with_mac(&self, namespace: Option<&str>, bridge: &LinkName, mac: MacAddr) -> Result<Vec<Vnic>> {
        let with_mac = "namespace IS ?1 AND bridge = ?2 AND mac = ?3 AND state = 'live'";
        self.vnics_by(with_mac, params![namespace, Text(bridge), Text(mac)])
    }

    /// The live VNICs on a bridge.
    pub fn vnics_on_bridge(&self, namespace: Option<&str>, bridge: &LinkName) -> Result<Vec<Vnic>> {
        let on_bridge = "namespace IS ?1 AND bridge = ?2 AND state = 'live' ORDER BY created";
        self.vnics_by(on_bridge, params![namespace, Text(bridge)])
    }

    /// A live VNIC of the same tenant that has an address where another one is to be: in its namespace, or on its
    /// bridge of the host.
    pub fn vnic_with_address(&self, beside: &Vnic, address: IpAddr) -> Result<Option<Vnic>> {
        let (bridge, tenant) = (Text(&beside.bridge), text(beside.tenant.as_ref()));
        let with_address = "state = 'live' AND namespace IS ?1 AND (?1 IS NOT NULL OR bridge = ?2) AND tenant IS ?3
             AND (address = ?4 OR address6 = ?4) LIMIT 1";
        Ok(self.vnics_by(with_address, params![beside.namespace, bridge, tenant, Text(address)])?.into_iter().next())
    }

    /// The live VNICs in a namespace.
    pub fn vnics_in_namespace(&self, namespace: &str) -> Result<Vec<Vnic>> {
        self.vnics_by("namespace = ?1 AND state = 'live' ORDER BY created", [namespace])
    }

    /// The VNICs whose links are being deleted, or were at a crash.
    pub fn vnics_deleting(&self) -> Result<Vec<Vnic>> {
        self.vnics_by("state = 'deleting'", [])
    }

    pub(super) fn vnics_by(&self, condition: &str, params: impl Params) -> Result<Vec<Vnic>> {
        self.all(&format!("{VNIC} WHERE {condition}"), params, vnic)
    }

    /// The names of both links of all VNICs, including those being deleted.
    pub fn vnic_links(&self) -> Result<Vec<LinkName>> {
        self.all(
            "SELECT container_link AS link FROM vnic_record UNION ALL SELECT host_link FROM vnic_record",
            [],
            |row| get(row, "link"),
        )
    }

    /// Records a VNIC.
    ///
    /// # Errors
    /// Another VNIC has the address or link name.
    pub fn insert_vnic(&self, vnic: &Vnic) -> Result<()> {
        self.change(
            "INSERT INTO vnic_record (id, owner, tenant, network, instance, subnet, address, subnet6, address6, mac, gateway,
             mtu, namespace, bridge, allowed, rate, network_name, container_link, host_link, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
            params![
                Text(&vnic.id),
                Text(vnic.owner),
                text(vnic.tenant.as_ref()),
                text(vnic.network.as_ref()),
                text(vnic.instance.as_ref()),
                vnic.v4.map_or_else(String::new, |(subnet, _)| subnet.to_string()),
                text(vnic.v4.map(|(_, address)| address)),
                text(vnic.v6.map(|(subnet, _)| subnet)),
                text(vnic.v6.map(|(_, address)| address)),
                Text(vnic.mac),
                text(vnic.gateway),
                vnic.mtu,
                vnic.namespace,
                Text(&vnic.bridge),
                Json(&vnic.allowed),
                text(vnic.rate),
                vnic.network_name,
                Text(&vnic.container_link),
                Text(&vnic.host_link),
                self.now()
            ],
        )
    }

    /// Changes a live VNIC's rate and additional addresses.
    pub fn set_vnic(&self, id: &VnicId, rate: Option<Rate>, allowed: &[IpAddr]) -> Result<()> {
        let allowed = serde_json::to_string(allowed)?;
        let statement = "UPDATE vnic_record SET rate = ?2, allowed = ?3 WHERE id = ?1 AND state = 'live'";
        self.change(statement, params![Text(id), text(rate), allowed])
    }

    /// Records that a VNIC's links are to be deleted. It is no longer found, and its addresses are available.
    pub fn set_vnic_deleting(&self, id: &VnicId) -> Result<()> {
        self.change("UPDATE vnic_record SET state = 'deleting' WHERE id = ?1", [Text(id)])
    }

    /// Deletes a VNIC whose links are deleted.
    pub fn delete_vnic(&self, id: &VnicId) -> Result<()> {
        self.change("DELETE FROM vnic_record WHERE id = ?1", [Text(id)])
    }
}
