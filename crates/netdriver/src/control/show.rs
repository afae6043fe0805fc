// SPDX-License-Identifier: Apache-2.0
//! One network with all that exists for it, for an administrator.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use ciao_common::store::{Egress6, Network};
use ciao_common::types::{LinkName, NetworkId, Subnet, TenantId};
use serde::{Deserialize, Serialize};

use crate::Driver;
use crate::kernel::Namespace;

/// A network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkReply {
    /// Docker's id.
    pub id: NetworkId,
    /// Whose.
    pub tenant: Option<TenantId>,
    /// Its subnets, IPv4 first.
    pub subnets: Vec<Subnet>,
    /// Their gateways.
    pub gateways: Vec<IpAddr>,
    /// Its bridge.
    pub bridge: LinkName,
    /// The bridge's network namespace; absent: the host's.
    pub namespace: Option<String>,
    /// Who answers the gateway's address.
    pub egress: String,
    /// How IPv6 leaves, if `egress` is `nat`.
    pub egress6: String,
    /// Whether containers send with their own addresses only.
    pub port_security: bool,
    /// Whether they reach each other.
    pub icc: bool,
    /// The host's end of the namespace's way out.
    pub uplink: Option<LinkName>,
    /// The namespace's addresses on it, by which the host knows the tenant.
    pub uplink_addresses: Vec<IpAddr>,
    /// `tcp 0.0.0.0:8080 -> 10.5.0.2:80`, `tcp [::]:8080 -> [fd00::2]:80`.
    pub ports: Vec<String>,
    /// As `nft list ruleset` shows them in the namespace.
    pub rules: Vec<String>,
}

/// A network with all that exists for it.
pub(super) fn describe(driver: &Driver, network: Network) -> Result<NetworkReply> {
    let (uplink, ports) = driver.store.read(|tx| {
        let uplink = network.namespace.as_deref().map(|namespace| tx.uplink(namespace)).transpose()?.flatten();
        let mut ports = Vec::new();
        for endpoint in tx.endpoints_of_network(&network.id)? {
            ports.extend(tx.ports_of(&endpoint.id)?);
        }
        Ok((uplink, ports))
    })?;
    let inside = Namespace::of(network.namespace.as_deref());
    let rules = if inside == Namespace::Host { String::new() } else { driver.fabric.kernel.list_rules(&inside)? };
    let pool = driver.fabric.uplinks.pool();
    let address = |v6| uplink.as_ref().map(|uplink| pool.inner_address(uplink.number, v6));
    Ok(NetworkReply {
        subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
        gateways: network.subnets.iter().filter_map(|subnet| subnet.gateway).collect(),
        egress: network.egress.to_string(),
        egress6: if network.subnets.iter().any(|s| s.subnet.network().is_ipv6()) {
            network.egress6
        } else {
            Egress6::None
        }
        .to_string(),
        port_security: network.secured,
        icc: network.icc,
        uplink_addresses: [address(false), address(true)].into_iter().flatten().collect(),
        uplink: uplink.map(|uplink| uplink.host_link),
        ports: ports
            .iter()
            .map(|p| {
                let from = SocketAddr::new(p.host_address, p.host_port);
                format!("{} {from} -> {}", p.protocol, SocketAddr::new(p.address, p.container_port))
            })
            .collect(),
        rules: rules.lines().map(str::to_owned).collect(),
        id: network.id,
        tenant: network.tenant,
        bridge: network.bridge,
        namespace: network.namespace,
    })
}
