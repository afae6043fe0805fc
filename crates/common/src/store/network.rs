// SPDX-License-Identifier: Apache-2.0
//! Tables `network_record`, `network_subnet` and `network_route`: Docker's networks of driver ciao-net.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::value::{Key, Text, get, get_optional, text};
use super::{Egress, Egress6, Pool, Tx, VnicPolicy, now};
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
    /// The options of `CreateNetwork` as JSON, to recognize a repeated request.
    pub options: String,
    /// Subnets, IPv4 first.
    pub subnets: Vec<NetworkSubnet>,
    /// Routes in addition to the default route.
    pub routes: Vec<Route>,
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

/// A row of view `network`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkRow {
    /// The tenant.
    pub tenant: Option<TenantId>,
    /// Subnets, separated by blanks.
    pub subnets: Option<String>,
    /// Gateways, separated by blanks.
    pub gateways: Option<String>,
    /// The bridge.
    pub bridge: LinkName,
    /// The bridge's network namespace, or `(host)`.
    pub namespace: String,
    /// `on`, `port_security=off`, or `none` on a bridge of the host.
    pub isolation: String,
    /// What acts as the default gateway.
    pub egress: String,
    /// MTU of the links.
    pub mtu: Option<Mtu>,
    /// `auto` or `required`.
    pub vnics: String,
    /// Number of endpoints.
    pub endpoints: i64,
    /// Docker's id, twelve characters.
    pub network: String,
    /// UTC.
    pub created: String,
}

fn network(row: &Row<'_>) -> rusqlite::Result<Network> {
    Ok(Network {
        id: get(row, "id")?,
        tenant: get_optional(row, "tenant")?,
        namespace: row.get("namespace")?,
        bridge: get(row, "bridge")?,
        mtu: row.get("mtu")?,
        egress: get(row, "egress")?,
        vnics: get(row, "vnics")?,
        dst_prefix: row.get("dst_prefix")?,
        egress6: get(row, "egress6")?,
        secured: row.get("secured")?,
        icc: row.get("icc")?,
        options: row.get("options")?,
        subnets: Vec::new(),
        routes: Vec::new(),
    })
}

const NETWORK: &str = "SELECT id, tenant, namespace, bridge, mtu, egress, vnics, dst_prefix, egress6, secured, icc, options FROM network_record";

impl Tx<'_> {
    /// The network with that id.
    pub fn network(&self, id: &NetworkId) -> Result<Option<Network>> {
        let found = self.first(&format!("{NETWORK} WHERE id = ?1"), [Text(id)], network)?;
        found.map(|network| self.with_subnets(network)).transpose()
    }

    /// All networks, oldest first.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let networks = self.all(&format!("{NETWORK} ORDER BY created"), [], network)?;
        networks.into_iter().map(|network| self.with_subnets(network)).collect()
    }

    /// The networks created before a time, in milliseconds since 1970.
    pub fn networks_before(&self, time: i64) -> Result<Vec<NetworkId>> {
        self.all("SELECT id FROM network_record WHERE created < ?1", [time], |row| get(row, "id"))
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
        let networks = self.all(&format!("{NETWORK} WHERE tenant = ?1 ORDER BY created"), [Text(tenant)], network)?;
        networks.into_iter().map(|network| self.with_subnets(network)).collect()
    }

    /// The networks whose bridges are in a namespace.
    pub fn networks_in_namespace(&self, namespace: &str) -> Result<Vec<Network>> {
        let networks = self.all(&format!("{NETWORK} WHERE namespace = ?1 ORDER BY created"), [namespace], network)?;
        networks.into_iter().map(|network| self.with_subnets(network)).collect()
    }

    /// The networks on a bridge.
    pub fn networks_on_bridge(&self, namespace: Option<&str>, bridge: &LinkName) -> Result<Vec<Network>> {
        let networks = self.all(
            &format!("{NETWORK} WHERE namespace IS ?1 AND bridge = ?2 ORDER BY created"),
            params![namespace, Text(bridge)],
            network,
        )?;
        networks.into_iter().map(|network| self.with_subnets(network)).collect()
    }

    fn with_subnets(&self, mut network: Network) -> Result<Network> {
        network.subnets = self.all(
            "SELECT subnet, gateway, aux, set_id, pool FROM network_subnet WHERE network = ?1 ORDER BY instr(subnet, ':'), subnet",
            [Text(&network.id)],
            |row| {
                let aux: String = row.get("aux")?;
                Ok(NetworkSubnet {
                    subnet: get(row, "subnet")?,
                    gateway: get_optional(row, "gateway")?,
                    aux: serde_json::from_str(&aux).unwrap_or_default(),
                    set_id: row.get("set_id")?,
                    pool: get_optional(row, "pool")?,
                })
            },
        )?;
        network.routes = self.all(
            "SELECT destination, next_hop FROM network_route WHERE network = ?1 ORDER BY destination",
            [Text(&network.id)],
            |row| Ok(Route { destination: get(row, "destination")?, next_hop: get_optional(row, "next_hop")? }),
        )?;
        Ok(network)
    }

    /// Records a network.
    pub fn insert_network(&self, network: &Network) -> Result<()> {
        self.change(
            "INSERT INTO network_record (id, tenant, namespace, bridge, mtu, egress, vnics, dst_prefix, egress6, secured, icc, options, created)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
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
                network.options,
                now()
            ],
        )?;
        for subnet in &network.subnets {
            self.change(
                "INSERT INTO network_subnet (network, subnet, gateway, aux, set_id, pool) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    Text(&network.id),
                    Text(subnet.subnet),
                    text(subnet.gateway),
                    serde_json::to_string(&subnet.aux)?,
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

    /// Records the set of addresses of a network's subnet, and its first pool.
    pub fn set_network_set(&self, network: &NetworkId, subnet: Subnet, set_id: i64) -> Result<()> {
        self.change(
            "UPDATE network_subnet SET set_id = ?3, pool = (SELECT pool_id FROM pool_record WHERE set_id = ?3 ORDER BY id LIMIT 1)
             WHERE network = ?1 AND subnet = ?2",
            params![Text(network), Text(subnet), set_id],
        )
        .map(drop)
    }

    /// Whether a network of another set of that subnet (and nonce, if given) was recorded while this pool had none, and has
    /// no endpoint yet that determines its set.
    pub fn is_paired_by_time_alone(&self, pool: &Pool, nonce: Option<&str>) -> Result<bool> {
        let found = self.first(
            "SELECT 1 FROM pool_record o JOIN pool_set s ON s.id = o.set_id
             JOIN network_subnet n ON n.set_id = s.id JOIN network_record r ON r.id = n.network
             WHERE s.scope = ?1 AND s.subnet = ?2 AND s.tenant IS NULL AND s.id <> ?3 AND (?4 IS NULL OR o.nonce = ?4) AND r.created >= ?5
               AND NOT EXISTS (SELECT 1 FROM endpoint_record e JOIN address_record a
                               ON a.set_id = s.id AND a.kind = 'lease' AND a.address IN (e.address, e.address6) WHERE e.network = r.id)
             LIMIT 1",
            params![Text(pool.set.scope), Text(pool.set.subnet), pool.set.id, nonce, pool.created],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Whether a tenant has a network or a VNIC on a bridge of the host.
    pub fn is_tenant_on_host_bridge(&self, tenant: Option<&TenantId>, bridge: &LinkName) -> Result<bool> {
        let Some(tenant) = tenant else { return Ok(false) };
        let has = |owner: &Option<TenantId>| owner.as_ref() == Some(tenant);
        let networks = self.networks_on_bridge(None, bridge)?;
        let vnics = self.vnics_on_bridge(None, bridge)?;
        Ok(networks.iter().any(|network| has(&network.tenant)) || vnics.iter().any(|vnic| has(&vnic.tenant)))
    }

    /// Whether a network or live VNIC uses a bridge.
    pub fn is_bridge_used(&self, namespace: &str, bridge: &LinkName) -> Result<bool> {
        let used = self.first(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM network_record WHERE namespace = ?1 AND bridge = ?2)
             OR EXISTS (SELECT 1 FROM vnic_record WHERE namespace = ?1 AND bridge = ?2 AND state = 'live')",
            params![namespace, Text(bridge)],
            |_| Ok(()),
        )?;
        Ok(used.is_some())
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
        let used = self.first(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM network_record WHERE namespace = ?1)
             OR EXISTS (SELECT 1 FROM vnic_record WHERE namespace = ?1 AND state = 'live')",
            [namespace],
            |_| Ok(()),
        )?;
        Ok(used.is_some())
    }

    /// The set without tenant, other than `mine`, with a lease of `address` in the same subnet, and its network. `None` if
    /// `mine` has the lease, or belongs to a tenant.
    pub fn own_set_holding(
        &self,
        mine: i64,
        subnet: Subnet,
        address: IpAddr,
    ) -> Result<Option<(i64, Option<NetworkId>)>> {
        self.first(
            "SELECT s.id, (SELECT n.network FROM network_subnet n WHERE n.set_id = s.id) AS network
             FROM pool_set s JOIN address_record a ON a.set_id = s.id AND a.key = ?3 AND a.kind = 'lease'
             WHERE s.scope = 'local' AND s.tenant IS NULL AND s.subnet = ?2 AND s.id <> ?1
               AND NOT EXISTS (SELECT 1 FROM pool_set m WHERE m.id = ?1 AND m.tenant IS NOT NULL)
               AND NOT EXISTS (SELECT 1 FROM address_record h WHERE h.set_id = ?1 AND h.key = ?3)
             ORDER BY a.granted DESC LIMIT 1",
            params![mine, Text(subnet), Key::of(address)],
            |row| Ok((row.get("id")?, get_optional(row, "network")?)),
        )
    }

    /// Deletes a network. `false`: there was none.
    pub fn delete_network(&self, id: &NetworkId) -> Result<bool> {
        Ok(self.change("DELETE FROM network_record WHERE id = ?1", [Text(id)])? > 0)
    }

    /// All rows of view `network`.
    pub fn network_rows(&self) -> Result<Vec<NetworkRow>> {
        self.all("SELECT * FROM network", [], |row| {
            Ok(NetworkRow {
                tenant: get_optional(row, "tenant")?,
                subnets: row.get("subnets")?,
                gateways: row.get("gateways")?,
                bridge: get(row, "bridge")?,
                namespace: row.get("namespace")?,
                isolation: row.get("isolation")?,
                egress: row.get("egress")?,
                mtu: row.get("mtu")?,
                vnics: row.get("vnics")?,
                endpoints: row.get("endpoints")?,
                network: row.get("network")?,
                created: row.get("created")?,
            })
        })
    }
}
