// SPDX-License-Identifier: Apache-2.0
//! Tables `network_record`, `network_subnet` and `network_route`: Docker's networks of driver ciao-net.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::{Params, Row, params};

use super::value::{Json, Text, get, get_optional, text};
use super::{Egress, Egress6, HostPort, Tx, VnicPolicy};
use crate::types::{LinkName, Mtu, NetworkId, PoolId, Subnet, TenantId};

/// A network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Docker's id.
    pub id: NetworkId,
    /// The tenant; `None`: isolated from all others.
    pub tenant: Option<TenantId>,
    /// Network namespace of the bridge; `None`: the host's.
    pub namespace: Option<String>,
    /// The bridge.
    pub bridge: LinkName,
    /// MTU of the links; `None`: the kernel's default.
    pub mtu: Option<Mtu>,
    /// What acts as the default gateway.
    pub egress: Egress,
    /// Whether endpoints get automatic VNICs.
    pub vnics: VnicPolicy,
    /// Prefix of the container's interface name.
    pub dst_prefix: String,
    /// Egress of IPv6.
    pub egress6: Egress6,
    /// Whether anti-spoofing (port security) is on.
    pub secured: bool,
    /// Whether its containers can reach each other.
    pub icc: bool,
    /// Subnets that its tenant reaches in spite of `serve --egress-deny`, also on the host's own containers and
    /// machines.
    pub egress_allow: Vec<Subnet>,
    /// Ports of the host's own services that its tenant reaches.
    pub host_access: Vec<HostPort>,
    /// The options of `CreateNetwork` as JSON, to recognize a repeated request.
    pub options: String,
    /// Subnets, IPv4 first.
    pub subnets: Vec<NetworkSubnet>,
    /// Routes in addition to the default route.
    pub routes: Vec<Route>,
    /// Whether Docker has it on other hosts alone, and this one routes to it.
    pub remote: bool,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSubnet {
    /// The subnet.
    pub subnet: Subnet,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// Auxiliary addresses (`--aux-address`).
    pub aux: Vec<IpAddr>,
    /// The set of addresses at ciao-ipam; `None`: of another IPAM driver.
    pub set_id: Option<i64>,
    /// The PoolID of its request.
    pub pool: Option<PoolId>,
}

/// A route of a network's containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub destination: Subnet,
    /// The router; `None`: directly connected.
    pub next_hop: Option<IpAddr>,
}

impl Network {
    /// Whether a subnet of it is an IPv6 one.
    pub fn has_v6(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.subnet.network().is_ipv6())
    }

    /// Whether something is open to its tenant that is closed to others.
    pub fn has_exceptions(&self) -> bool {
        !self.egress_allow.is_empty() || !self.host_access.is_empty()
    }
}

/// A row of [`NETWORK`], by number: a column's name costs some 500 instructions.
fn network(row: &Row<'_>) -> rusqlite::Result<Network> {
    Ok(Network {
        id: get(row, 0)?,
        tenant: get_optional(row, 1)?,
        namespace: row.get(2)?,
        bridge: get(row, 3)?,
        mtu: row.get(4)?,
        egress: get(row, 5)?,
        vnics: get(row, 6)?,
        dst_prefix: row.get(7)?,
        egress6: get(row, 8)?,
        secured: row.get(9)?,
        icc: row.get(10)?,
        egress_allow: row.get::<_, Json<_>>(11)?.0,
        host_access: row.get::<_, Json<_>>(12)?.0,
        options: row.get(13)?,
        subnets: Vec::new(),
        routes: Vec::new(),
        remote: row.get(14)?,
    })
}

const NETWORK: &str = "SELECT id, tenant, namespace, bridge, mtu, egress, vnics, dst_prefix, egress6, secured, icc, egress_allow, host_access, options, remote FROM network_record";

impl Tx<'_> {
    /// The network with that id.
    pub fn network(&self, id: &NetworkId) -> Result<Option<Network>> {
        let found = self.first(&format!("{NETWORK} WHERE id = ?1"), [Text(id)], network)?;
        found.map(|network| self.with_subnets(network)).transpose()
    }

    /// All networks, oldest first.
    pub fn networks(&self) -> Result<Vec<Network>> {
        self.networks_by("", [])
    }

    /// Docker's networks created before a time, in milliseconds since 1970.
    pub fn networks_before(&self, time: i64) -> Result<Vec<NetworkId>> {
        self.all("SELECT id FROM network_record WHERE created < ?1 AND NOT remote", [time], |row| get(row, "id"))
    }

    /// The networks without any set of addresses left at ciao-ipam.
    pub fn networks_without_pools(&self) -> Result<Vec<NetworkId>> {
        self.all(
            "SELECT network AS id FROM network_subnet GROUP BY network
             HAVING count(set_id) = count(*) AND sum(set_id IN (SELECT id FROM pool_set)) = 0",
            [],
            |row| get(row, "id"),
        )
    }

    /// The networks of a tenant.
    pub fn networks_of_tenant(&self, tenant: &TenantId) -> Result<Vec<Network>> {
        self.networks_by("WHERE tenant = ?1", [Text(tenant)])
    }

    /// The networks whose bridges are in a namespace.
    pub fn networks_in_namespace(&self, namespace: &str) -> Result<Vec<Network>> {
        self.networks_by("WHERE namespace = ?1", [namespace])
    }

    /// The networks on a bridge.
    pub fn networks_on_bridge(&self, namespace: Option<&str>, bridge: &LinkName) -> Result<Vec<Network>> {
        self.networks_by("WHERE namespace IS ?1 AND bridge = ?2", params![namespace, Text(bridge)])
    }

    /// Where bridges of networks and VNICs are; `None`: on the host.
    pub fn recorded_namespaces(&self) -> Result<Vec<Option<String>>> {
        self.all("SELECT namespace FROM network_record UNION SELECT namespace FROM vnic_record", [], |row| {
            row.get("namespace")
        })
    }

    fn networks_by(&self, condition: &str, params: impl Params) -> Result<Vec<Network>> {
        let networks = self.all(&format!("{NETWORK} {condition} ORDER BY created"), params, network)?;
        networks.into_iter().map(|network| self.with_subnets(network)).collect()
    }

    fn with_subnets(&self, mut network: Network) -> Result<Network> {
        network.subnets = self.all(
            "SELECT subnet, gateway, aux, set_id, pool FROM network_subnet WHERE network = ?1 ORDER BY instr(subnet, ':'), subnet",
            [Text(&network.id)],
            |row| {
                Ok(NetworkSubnet {
                    subnet: get(row, 0)?,
                    gateway: get_optional(row, 1)?,
                    aux: row.get::<_, Json<_>>(2)?.0,
                    set_id: row.get(3)?,
                    pool: get_optional(row, 4)?,
                })
            },
        )?;
        network.routes = self.all(
            "SELECT destination, next_hop FROM network_route WHERE network = ?1 ORDER BY destination",
            [Text(&network.id)],
            |row| Ok(Route { destination: get(row, 0)?, next_hop: get_optional(row, 1)? }),
        )?;
        Ok(network)
    }

    /// Records a network.
    pub fn insert_network(&self, network: &Network) -> Result<()> {
        self.change(
            "INSERT INTO network_record (id, tenant, namespace, bridge, mtu, egress, vnics, dst_prefix, egress6, secured, icc, egress_allow, host_access, options, created, remote)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            params![
                Text(&network.id),
                text(network.tenant.as_ref()),
                network.namespace,
                Text(&network.bridge),
                network.mtu,
                Text(network.egress),
                Text(network.vnics),
                network.dst_prefix,
                Text(network.egress6),
                network.secured,
                network.icc,
                Json(&network.egress_allow),
                Json(&network.host_access),
                network.options,
                self.now(),
                network.remote
            ],
        )?;
        for subnet in &network.subnets {
            self.change(
                "INSERT INTO network_subnet (network, subnet, gateway, aux, set_id, pool) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    Text(&network.id),
                    Text(subnet.subnet),
                    text(subnet.gateway),
                    Json(&subnet.aux),
                    subnet.set_id,
                    text(subnet.pool.as_ref())
                ],
            )?;
        }
        for route in &network.routes {
            self.change(
                "INSERT INTO network_route (network, destination, next_hop) VALUES (?1, ?2, ?3)",
                params![Text(&network.id), Text(route.destination), text(route.next_hop)],
            )?;
        }
        Ok(())
    }

    /// Deletes a network.
    pub fn delete_network(&self, id: &NetworkId) -> Result<()> {
        self.change("DELETE FROM network_record WHERE id = ?1", [Text(id)])
    }
}
