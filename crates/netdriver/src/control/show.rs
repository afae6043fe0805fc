// SPDX-License-Identifier: Apache-2.0
//! One network with all that exists for it, for an administrator.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use ciao_common::store::{Egress6, HostPort, Network};
use ciao_common::types::{Address, HostId, LinkName, Mtu, NetworkId, Subnet, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::kernel::Namespace;
use crate::{Driver, names};

/// A network.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Network)]
pub struct NetworkReply {
    /// Docker's id.
    pub id: NetworkId,
    /// The tenant that owns it.
    pub tenant: Option<TenantId>,
    /// Its subnets, IPv4 first.
    pub subnets: Vec<Subnet>,
    /// Their gateways.
    #[schema(value_type = Vec<Address>)]
    pub gateways: Vec<IpAddr>,
    /// Its bridge.
    pub bridge: LinkName,
    /// The bridge's network namespace; absent: the host's.
    pub namespace: Option<String>,
    /// Whether Docker has it on other hosts alone, and this one routes to it.
    pub remote: bool,
    /// What acts as the default gateway.
    pub egress: String,
    /// How IPv6 leaves, if `egress` is `nat`.
    pub egress6: String,
    /// What its tenant reaches in spite of `serve --egress-deny`.
    pub egress_allow: Vec<Subnet>,
    /// Ports of the host's own services that its tenant reaches: `5432/tcp`.
    pub host_access: Vec<String>,
    /// What no tenant reaches otherwise: `serve --egress-deny`.
    pub egress_deny: Vec<Subnet>,
    /// Whether containers send with their own addresses only.
    pub port_security: bool,
    /// Whether they reach each other.
    pub icc: bool,
    /// The host's end of the namespace's uplink.
    pub uplink: Option<LinkName>,
    /// The namespace's addresses on it, by which the host identifies the tenant.
    #[schema(value_type = Vec<Address>)]
    pub uplink_addresses: Vec<IpAddr>,
    /// Its tunnel to other hosts, if it has a VNI.
    pub tunnel: Option<TunnelReply>,
    /// `tcp 0.0.0.0:8080 -> 10.5.0.2:80`, `tcp [::]:8080 -> [fd00::2]:80`.
    pub ports: Vec<String>,
    /// As `nft list ruleset` shows them in the namespace.
    pub rules: Vec<String>,
}

/// A network's tunnel.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Tunnel)]
pub struct TunnelReply {
    /// Its VXLAN network identifier.
    pub vni: u32,
    /// Its link on the bridge.
    pub link: LinkName,
    /// In bytes.
    pub mtu: Option<Mtu>,
    /// This host's address that frames leave with; absent: this host is in no list of hosts, and the tunnel does not
    /// exist.
    #[schema(value_type = Option<Address>)]
    pub local: Option<IpAddr>,
    /// UDP.
    pub port: Option<u16>,
    /// Whether it leads to other hosts over an encrypted link only.
    pub encrypted: bool,
    /// Whether broadcast and multicast go to other hosts.
    pub flood: bool,
    /// How many addresses on other hosts are reached.
    pub remotes: usize,
    /// How many MAC addresses on each other host.
    pub hosts: BTreeMap<HostId, usize>,
}

fn tunnel(driver: &Driver, network: &Network) -> Result<Option<TunnelReply>> {
    let Some(tunnel) = driver.store.read(|tx| tx.tunnel(&network.id))? else { return Ok(None) };
    let link = driver.fabric.tunnels.link(network)?;
    let others = driver.fabric.tunnels.cluster()?.others;
    let on = |number: u32| link.iter().flat_map(|link| link.macs.values()).filter(|at| **at == number).count();
    let hosts = others.into_values().map(|host| (host.id, on(host.number))).collect();
    Ok(Some(TunnelReply {
        vni: tunnel.vni,
        link: names::tunnel_link(&network.id)?,
        mtu: network.mtu,
        local: link.as_ref().map(|link| link.local),
        port: link.as_ref().map(|link| link.port),
        encrypted: tunnel.encrypted,
        flood: tunnel.flood,
        remotes: link.map_or(0, |link| link.neighbours.len()),
        hosts,
    }))
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
    let pool = driver.fabric.uplinks.pool;
    let address = |v6| uplink.as_ref().map(|uplink| pool.inner_address(uplink.number, v6));
    Ok(NetworkReply {
        subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
        gateways: network.subnets.iter().filter_map(|subnet| subnet.gateway).collect(),
        remote: network.remote,
        egress: network.egress.to_string(),
        egress6: if network.has_v6() { network.egress6 } else { Egress6::None }.to_string(),
        egress_allow: network.egress_allow.clone(),
        host_access: network.host_access.iter().map(HostPort::to_string).collect(),
        egress_deny: driver.config.egress.deny.clone(),
        port_security: network.secured,
        icc: network.icc,
        uplink_addresses: [address(false), address(true)].into_iter().flatten().collect(),
        tunnel: tunnel(driver, &network)?,
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
