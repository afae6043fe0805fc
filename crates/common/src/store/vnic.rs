// SPDX-License-Identifier: Apache-2.0
//! Table `vnic_record`: the veth pairs that ciao-net made.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Result, bail};
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::value::{Text, get, get_optional, text};
use super::words::words;
use super::{Tx, now};
use crate::types::{InstanceId, LinkName, MacAddr, Mtu, NetworkId, Rate, Subnet, TenantId, VnicId};

/// Whose word deletes a VNIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The launcher's, and nobody else's.
    Launcher,
    /// Docker's: it goes with its endpoint.
    Docker,
}

words!(Owner, "owner", Launcher = "launcher", Docker = "docker");

/// A VNIC: a veth pair, one end for a container, the other on a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vnic {
    /// Ours.
    pub id: VnicId,
    /// Whose word deletes it.
    pub owner: Owner,
    /// Whose network it is on; `None`: of a network without tenant.
    pub tenant: Option<TenantId>,
    /// The network it was made for, if it is Docker's.
    pub network: Option<NetworkId>,
    /// What it is for.
    pub instance: Option<InstanceId>,
    /// Subnet and address in it; a launcher's always has one.
    pub v4: Option<(Subnet, IpAddr)>,
    /// The second pair, for dual stack.
    pub v6: Option<(Subnet, IpAddr)>,
    /// Of the container's end.
    pub mac: MacAddr,
    /// For the Docker network, if it is a launcher's.
    pub gateway: Option<IpAddr>,
    /// In bytes; `None`: the kernel's default.
    pub mtu: Option<Mtu>,
    /// Where its bridge is; `None`: in the host's namespace.
    pub namespace: Option<String>,
    /// What its other end is on.
    pub bridge: LinkName,
    /// Further addresses it may send with.
    pub allowed: Vec<IpAddr>,
    /// How fast it may be, each way.
    pub rate: Option<Rate>,
    /// The Docker network's name, if it is a launcher's.
    pub network_name: Option<String>,
    /// The container's end, in the host's namespace until Docker takes it.
    pub container_link: LinkName,
    /// The end on the bridge.
    pub host_link: LinkName,
}

/// A line of the list of VNICs, as view `vnic` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VnicRow {
    /// Ours.
    pub id: VnicId,
    /// `launcher` or `docker`.
    pub owner: Owner,
    /// Whose.
    pub tenant: Option<TenantId>,
    /// What it is for.
    pub instance: Option<InstanceId>,
    /// IPv4 address (or IPv6, if it has only that).
    pub address: Option<IpAddr>,
    /// IPv6 address of dual stack.
    pub address6: Option<IpAddr>,
    /// Of the container's end.
    pub mac: MacAddr,
    /// How fast it may be, each way.
    pub rate: Option<Rate>,
    /// What its other end is on.
    pub bridge: LinkName,
    /// The bridge's network namespace, or `(host)`.
    pub namespace: String,
    /// The container's end.
    pub container_link: LinkName,
    /// The end on the bridge.
    pub host_link: LinkName,
    /// `live`, or `deleting` while its links are deleted.
    pub state: String,
    /// Docker's endpoint that has it, twelve characters.
    pub endpoint: Option<String>,
    /// UTC.
    pub created: String,
}

const VNIC: &str = "SELECT id, owner, tenant, network, instance, subnet, address, subnet6, address6, mac, gateway, mtu,
     namespace, bridge, allowed, rate, network_name, container_link, host_link FROM vnic_record";

fn vnic(row: &Row<'_>) -> rusqlite::Result<Vnic> {
    let v4 = match get_optional(row, "address")? {
        Some(address) => Some((get(row, "subnet")?, address)),
        None => None,
    };
    Ok(Vnic {
        id: get(row, "id")?,
        owner: get(row, "owner")?,
        tenant: get_optional(row, "tenant")?,
        network: get_optional(row, "network")?,
        instance: get_optional(row, "instance")?,
        v4,
        v6: get_optional(row, "subnet6")?.zip(get_optional(row, "address6")?),
        mac: get(row, "mac")?,
        gateway: get_optional(row, "gateway")?,
        mtu: row.get("mtu")?,
        namespace: row.get("namespace")?,
        bridge: get(row, "bridge")?,
        allowed: serde_json::from_str(&row.get::<_, String>("allowed")?).unwrap_or_default(),
        rate: get_optional(row, "rate")?,
        network_name: row.get("network_name")?,
        container_link: get(row, "container_link")?,
        host_link: get(row, "host_link")?,
    })
}

impl Vnic {
    /// Its own addresses, without their subnets.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [self.v4, self.v6].into_iter().flatten().map(|(_, address)| address)
    }
}

impl Tx<'_> {
    /// The live VNIC of that id.
    ///
    /// # Errors
    /// The disk's.
    pub fn vnic(&self, id: &VnicId) -> Result<Option<Vnic>> {
        self.first(&format!("{VNIC} WHERE id = ?1 AND state = 'live'"), [Text(id)], vnic)
    }

    /// Every live VNIC, of one tenant or of all, oldest first.
    ///
    /// # Errors
    /// The disk's.
    pub fn vnics(&self, tenant: Option<&TenantId>) -> Result<Vec<Vnic>> {
        self.all(
            &format!("{VNIC} WHERE state = 'live' AND (?1 IS NULL OR tenant = ?1) ORDER BY created, id"),
            [text(tenant)],
            vnic,
        )
    }

    /// The launcher's VNIC with that address of a tenant.
    ///
    /// # Errors
    /// The disk's.
    pub fn vnic_at(&self, tenant: &TenantId, subnet: Subnet, address: IpAddr) -> Result<Option<Vnic>> {
        let found = self.first(
            &format!(
                "{VNIC} WHERE tenant = ?1 AND subnet = ?2 AND address = ?3 AND owner = 'launcher' AND state = 'live'"
            ),
            params![Text(tenant), Text(subnet), Text(address)],
            vnic,
        )?;
        if found.is_some() || address.is_ipv4() {
            return Ok(found);
        }
        self.first(
            &format!(
                "{VNIC} WHERE tenant = ?1 AND subnet6 = ?2 AND address6 = ?3 AND owner = 'launcher' AND state = 'live'"
            ),
            params![Text(tenant), Text(subnet), Text(address)],
            vnic,
        )
    }

    /// The live VNICs on a bridge that have that MAC address.
    ///
    /// # Errors
    /// The disk's.
    pub fn vnics_with_mac(&self, namespace: Option<&str>, bridge: &LinkName, mac: MacAddr) -> Result<Vec<Vnic>> {
        self.all(
            &format!("{VNIC} WHERE namespace IS ?1 AND bridge = ?2 AND mac = ?3 AND state = 'live'"),
            params![namespace, Text(bridge), Text(mac)],
            vnic,
        )
    }

    /// The live launcher's VNICs of an instance.
    ///
    /// # Errors
    /// The disk's.
    pub fn vnics_of_instance(&self, instance: &InstanceId) -> Result<Vec<Vnic>> {
        self.all(
            &format!("{VNIC} WHERE instance = ?1 AND owner = 'launcher' AND state = 'live' ORDER BY created"),
            [Text(instance)],
            vnic,
        )
    }

    /// The live VNICs on a bridge.
    ///
    /// # Errors
    /// The disk's.
    pub fn vnics_on_bridge(&self, namespace: Option<&str>, bridge: &LinkName) -> Result<Vec<Vnic>> {
        self.all(
            &format!("{VNIC} WHERE namespace IS ?1 AND bridge = ?2 AND state = 'live' ORDER BY created"),
            params![namespace, Text(bridge)],
            vnic,
        )
    }

    /// The live VNICs in a namespace.
    ///
    /// # Errors
    /// The disk's.
    pub fn vnics_in_namespace(&self, namespace: &str) -> Result<Vec<Vnic>> {
        self.all(&format!("{VNIC} WHERE namespace = ?1 AND state = 'live' ORDER BY created"), [namespace], vnic)
    }

    /// The VNICs whose links are being deleted, or were when a crash came.
    ///
    /// # Errors
    /// The disk's.
    pub fn vnics_deleting(&self) -> Result<Vec<Vnic>> {
        self.all(&format!("{VNIC} WHERE state = 'deleting'"), [], vnic)
    }

    /// The tenants whose launcher has VNICs of that subnet on a bridge of that name.
    ///
    /// # Errors
    /// The disk's.
    pub fn tenants_on_bridge(&self, bridge: &LinkName, subnet: Subnet) -> Result<Vec<TenantId>> {
        self.all(
            "SELECT DISTINCT tenant FROM vnic_record
             WHERE owner = 'launcher' AND state = 'live' AND bridge = ?1 AND (subnet = ?2 OR subnet6 = ?2)",
            params![Text(bridge), Text(subnet)],
            |row| get(row, "tenant"),
        )
    }

    /// A launcher's VNIC of a subnet of a tenant, the oldest.
    ///
    /// # Errors
    /// The disk's.
    pub fn vnic_in_subnet(&self, tenant: &TenantId, subnet: Subnet) -> Result<Option<Vnic>> {
        self.first(
            &format!("{VNIC} WHERE tenant = ?1 AND subnet = ?2 AND owner = 'launcher' AND state = 'live' ORDER BY created LIMIT 1"),
            params![Text(tenant), Text(subnet)],
            vnic,
        )
    }

    /// The subnets of a tenant's launcher's VNICs, with the gateways of the IPv4 (or only) ones.
    ///
    /// # Errors
    /// The disk's.
    pub fn launcher_subnets(&self, tenant: &TenantId) -> Result<Vec<(Subnet, Option<IpAddr>)>> {
        self.all(
            "SELECT DISTINCT subnet, gateway FROM vnic_record WHERE tenant = ?1 AND owner = 'launcher' AND state = 'live'
             UNION SELECT DISTINCT subnet6, NULL FROM vnic_record
             WHERE tenant = ?1 AND owner = 'launcher' AND state = 'live' AND subnet6 IS NOT NULL",
            [Text(tenant)],
            |row| Ok((get(row, "subnet")?, get_optional(row, "gateway")?)),
        )
    }

    /// The names of all VNICs' links, both ends, those on their way out too.
    ///
    /// # Errors
    /// The disk's.
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
    /// The disk's; an address or link name that another one has.
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
                serde_json::to_string(&vnic.allowed)?,
                text(vnic.rate),
                vnic.network_name,
                Text(&vnic.container_link),
                Text(&vnic.host_link),
                now()
            ],
        )
        .map(drop)
    }

    /// Says that a VNIC's links are to be deleted: nothing finds it any more, its addresses are free for another one.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_vnic_deleting(&self, id: &VnicId) -> Result<()> {
        self.change("UPDATE vnic_record SET state = 'deleting' WHERE id = ?1", [Text(id)]).map(drop)
    }

    /// Forgets a VNIC whose links are gone.
    ///
    /// # Errors
    /// The disk's.
    pub fn delete_vnic(&self, id: &VnicId) -> Result<()> {
        self.change("DELETE FROM vnic_record WHERE id = ?1", [Text(id)]).map(drop)
    }

    /// Every VNIC, for people.
    ///
    /// # Errors
    /// The disk's.
    pub fn vnic_rows(&self) -> Result<Vec<VnicRow>> {
        self.all("SELECT * FROM vnic", [], |row| {
            Ok(VnicRow {
                id: get(row, "id")?,
                owner: get(row, "owner")?,
                tenant: get_optional(row, "tenant")?,
                instance: get_optional(row, "instance")?,
                address: get_optional(row, "address")?,
                address6: get_optional(row, "address6")?,
                mac: get(row, "mac")?,
                rate: get_optional(row, "rate")?,
                bridge: get(row, "bridge")?,
                namespace: row.get("namespace")?,
                container_link: get(row, "container_link")?,
                host_link: get(row, "host_link")?,
                state: row.get("state")?,
                endpoint: row.get("endpoint")?,
                created: row.get("created")?,
            })
        })
    }
}
