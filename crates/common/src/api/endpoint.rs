// SPDX-License-Identifier: Apache-2.0
//! `NetworkDriver.*`: endpoints, sandboxes, published ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::go::{self, Options};
use crate::types::{EndpointId, LinkName, MacAddr, NetworkId, Subnet};

/// Key of an endpoint's options for its published ports.
pub const PORT_MAP: &str = "com.docker.network.portmap";
/// Key of an endpoint's options for the name of its interface in the container; Compose's `interface_name`.
pub const INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// The addresses of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Interface {
    /// IPv4 address with prefix.
    #[serde(deserialize_with = "go::optional_cidr", serialize_with = "go::or_empty")]
    pub address: Option<IpNetwork>,
    /// IPv6 address with prefix.
    #[serde(rename = "AddressIPv6", deserialize_with = "go::optional_cidr", serialize_with = "go::or_empty")]
    pub address_ipv6: Option<IpNetwork>,
    /// MAC address, if the user gave one or the IPAM driver requires one.
    #[serde(deserialize_with = "go::optional", serialize_with = "go::or_empty")]
    pub mac_address: Option<MacAddr>,
}

/// Argument of `NetworkDriver.CreateEndpoint`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateEndpoint {
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network_id: NetworkId,
    /// The new endpoint.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: EndpointId,
    /// The addresses chosen by the engine.
    #[serde(rename = "Interface", default, deserialize_with = "go::object")]
    pub interface: Interface,
    /// Ports, and the user's `driver-opt` at the top level.
    #[serde(rename = "Options", default, deserialize_with = "go::nullable")]
    pub options: Options,
}

/// Reply of `NetworkDriver.CreateEndpoint`: what the request left open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointReply {
    /// The driver's choice, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
}

/// Argument of `DeleteEndpoint`, `EndpointOperInfo`, `Leave` and `RevokeExternalConnectivity`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointRef {
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network_id: NetworkId,
    /// The endpoint.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: EndpointId,
}

/// Reply of `NetworkDriver.EndpointOperInfo`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointInfo {
    /// Information for users, by name.
    pub value: BTreeMap<String, String>,
}

/// Argument of `NetworkDriver.Join` and `ProgramExternalConnectivity`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRequest {
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network_id: NetworkId,
    /// The endpoint.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: EndpointId,
    /// Published ports, under [`PORT_MAP`].
    #[serde(rename = "Options", default, deserialize_with = "go::nullable")]
    pub options: Options,
}

/// The link to move into the sandbox, and its name there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    /// Name of the link in the host's namespace.
    pub src_name: LinkName,
    /// Prefix of its name in the container; the engine appends a number.
    pub dst_prefix: String,
    /// Its whole name there, which engines before 29.8 ignore (moby#52866).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst_name: Option<LinkName>,
}

/// A route in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StaticRoute {
    /// Destination.
    pub destination: Subnet,
    /// 0: via the next hop; 1: directly connected.
    pub route_type: u8,
    /// The router, if the type is 0.
    #[serde(default, deserialize_with = "go::optional_address", serialize_with = "go::or_empty")]
    pub next_hop: Option<IpAddr>,
}

/// Reply of `NetworkDriver.Join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JoinReply {
    /// The link.
    pub interface_name: InterfaceName,
    /// IPv4 gateway, bare.
    #[serde(default, deserialize_with = "go::optional_address", serialize_with = "go::or_empty")]
    pub gateway: Option<IpAddr>,
    /// IPv6 gateway, bare.
    #[serde(
        rename = "GatewayIPv6",
        default,
        deserialize_with = "go::optional_address",
        serialize_with = "go::or_empty"
    )]
    pub gateway_ipv6: Option<IpAddr>,
    /// Further routes.
    #[serde(default, deserialize_with = "go::nullable", skip_serializing_if = "Vec::is_empty")]
    pub static_routes: Vec<StaticRoute>,
    /// Whether the engine adds no second interface on `docker_gwbridge`, as it does without a gateway otherwise.
    #[serde(default)]
    pub disable_gateway_service: bool,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortBinding {
    /// IP protocol number: 6 TCP, 17 UDP, 132 SCTP.
    pub proto: u8,
    /// The container's port.
    pub port: u16,
    /// Address of the host; absent: all addresses.
    #[serde(rename = "HostIP", default, deserialize_with = "go::optional_address", serialize_with = "go::or_empty")]
    pub host_ip: Option<IpAddr>,
    /// First host port; 0: any.
    #[serde(default, deserialize_with = "go::nullable")]
    pub host_port: u16,
    /// Last host port of the range.
    #[serde(default, deserialize_with = "go::nullable")]
    pub host_port_end: u16,
}
