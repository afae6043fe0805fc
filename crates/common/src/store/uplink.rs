// SPDX-License-Identifier: Apache-2.0
//! Tables `uplink_record` and `port_record`: uplinks of namespaces, and published ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result};
use rusqlite::{Row, params};

use super::value::{Text, get};
use super::{Protocol, Tx};
use crate::types::{EndpointId, LinkName};

/// The uplink of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The namespace.
    pub namespace: String,
    /// Index of its address pair in the uplink pools.
    pub number: u32,
    /// Name of the host's end.
    pub host_link: LinkName,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// Address of the host; unspecified: all addresses.
    pub host_address: IpAddr,
    /// Port of the host.
    pub host_port: u16,
    /// The container's endpoint.
    pub endpoint: EndpointId,
    /// Network namespace of the tenant.
    pub namespace: String,
    /// Address of the container.
    pub address: IpAddr,
    /// Port of the container.
    pub container_port: u16,
    /// Its number at the tenant's uplink, see [`Tx::free_inner_port`].
    pub inner_port: u16,
}

fn uplink(row: &Row<'_>) -> rusqlite::Result<Uplink> {
    Ok(Uplink { namespace: row.get("namespace")?, number: row.get("number")?, host_link: get(row, "host_link")? })
}

fn port(row: &Row<'_>) -> rusqlite::Result<Port> {
    Ok(Port {
        protocol: get(row, "protocol")?,
        host_address: get(row, "host_address")?,
        host_port: row.get("host_port")?,
        endpoint: get(row, "endpoint")?,
        namespace: row.get("namespace")?,
        address: get(row, "address")?,
        container_port: row.get("container_port")?,
        inner_port: row.get("inner_port")?,
    })
}

const UPLINK: &str = "SELECT namespace, number, host_link FROM uplink_record";
const PORT: &str = "SELECT protocol, host_address, host_port, endpoint, namespace, address, container_port, coalesce(inner_port, host_port) AS inner_port FROM port_record";

impl Tx<'_> {
    /// The uplink of a namespace.
    pub fn uplink(&self, namespace: &str) -> Result<Option<Uplink>> {
        self.first(&format!("{UPLINK} WHERE namespace = ?1"), [namespace], uplink)
    }

    /// All uplinks.
    pub fn uplinks(&self) -> Result<Vec<Uplink>> {
        self.all(&format!("{UPLINK} ORDER BY number"), [], uplink)
    }

    /// The lowest unused number from `start`.
    pub fn free_uplink_number(&self, start: u32) -> Result<u32> {
        let free = self.first(
            "SELECT min(n) FROM (SELECT ?1 AS n UNION ALL SELECT number + 1 FROM uplink_record WHERE number >= ?1)
             WHERE n NOT IN (SELECT number FROM uplink_record)",
            [start],
            |row| row.get(0),
        )?;
        Ok(free.unwrap_or(start))
    }

    /// Records an uplink.
    ///
    /// # Errors
    /// Another uplink has the number or link.
    pub fn insert_uplink(&self, uplink: &Uplink) -> Result<()> {
        self.change(
            "INSERT INTO uplink_record (namespace, number, host_link) VALUES (?1, ?2, ?3)",
            params![uplink.namespace, uplink.number, Text(&uplink.host_link)],
        )
    }

    /// Deletes an uplink.
    pub fn delete_uplink(&self, namespace: &str) -> Result<()> {
        self.change("DELETE FROM uplink_record WHERE namespace = ?1", [namespace])
    }

    /// The published port of the host at that address or at all addresses.
    pub fn port_at(&self, protocol: Protocol, address: IpAddr, number: u16) -> Result<Option<Port>> {
        let every = if address.is_ipv4() { "0.0.0.0" } else { "::" };
        self.first(
            &format!("{PORT} WHERE protocol = ?1 AND host_port = ?2 AND (host_address = ?3 OR host_address = ?4 OR ?3 = ?4) AND (instr(host_address, ':') > 0) = (instr(?4, ':') > 0)"),
            params![Text(protocol), number, Text(address), every],
            port,
        )
    }

    /// The published ports of an endpoint.
    pub fn ports_of(&self, endpoint: &EndpointId) -> Result<Vec<Port>> {
        self.all(&format!("{PORT} WHERE endpoint = ?1"), [Text(endpoint)], port)
    }

    /// The published ports of a tenant's namespace.
    pub fn ports_in_namespace(&self, namespace: &str) -> Result<Vec<Port>> {
        self.all(&format!("{PORT} WHERE namespace = ?1 ORDER BY host_port"), [namespace], port)
    }

    /// All published ports.
    pub fn ports(&self) -> Result<Vec<Port>> {
        self.all(&format!("{PORT} ORDER BY host_port"), [], port)
    }

    /// The number that a port can have at its tenant's uplink, which one port of each protocol and family has there:
    /// the host's, unless a port of another of the host's addresses has it.
    ///
    /// # Errors
    /// All are in use.
    pub fn free_inner_port(&self, port: &Port) -> Result<u16> {
        let of_tenant = "WHERE namespace = ?1 AND protocol = ?2 AND (instr(address, ':') > 0) = ?3";
        let params = params![port.namespace, Text(port.protocol), port.address.is_ipv6()];
        let used = self.all(&format!("{PORT} {of_tenant}"), params, |row| row.get::<_, u16>("inner_port"))?;
        let used: BTreeSet<_> = used.into_iter().collect();
        let mut wanted = std::iter::once(port.host_port).chain((1..=u16::MAX).rev());
        wanted.find(|number| !used.contains(number)).context("all ports of the tenant's uplink are in use")
    }

    /// Records a published port.
    ///
    /// # Errors
    /// The port is already published.
    pub fn insert_port(&self, port: &Port) -> Result<()> {
        self.change(
            "INSERT INTO port_record (protocol, host_address, host_port, endpoint, namespace, address, container_port, inner_port)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                Text(port.protocol),
                Text(port.host_address),
                port.host_port,
                Text(&port.endpoint),
                port.namespace,
                Text(port.address),
                port.container_port,
                port.inner_port
            ],
        )?;
        self.record_published(port)
    }

    /// Deletes the published ports of an endpoint.
    pub fn delete_ports_of(&self, endpoint: &EndpointId) -> Result<()> {
        self.record_revoked(endpoint)?;
        self.change("DELETE FROM port_record WHERE endpoint = ?1", [Text(endpoint)])
    }
}
