// SPDX-License-Identifier: Apache-2.0
//! `NetworkDriver.*`: networks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::go::{self, Options};
use crate::types::{NetworkId, Subnet};

/// Key of `CreateNetwork.Options`: `docker network create --internal`.
pub const INTERNAL: &str = "com.docker.network.internal";
/// Docker's network option for the MTU.
pub const MTU: &str = "com.docker.network.driver.mtu";

/// Reply of `NetworkDriver.GetCapabilities`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Capabilities {
    /// `local` or `global` (a swarm's).
    pub scope: String,
    /// Like `scope`, for connectivity. `global`: the engine reports the nodes of its swarm.
    pub connectivity_scope: String,
    /// Whether `GwAllocCheck` is supported (engine 28 and newer).
    pub gw_alloc_checker: bool,
}

/// Reply of `NetworkDriver.GwAllocCheck`: whether the engine need not allocate gateway addresses.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GwAllocReply {
    /// Allocate no IPv4 gateway.
    #[serde(rename = "SkipIPv4")]
    pub skip_ipv4: bool,
    /// Allocate no IPv6 gateway.
    #[serde(rename = "SkipIPv6")]
    pub skip_ipv6: bool,
}

/// One subnet of a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamData {
    /// The address space; `local` and `global` are ciao-ipam's.
    #[serde(default, deserialize_with = "go::nullable")]
    pub address_space: String,
    /// The subnet.
    pub pool: Subnet,
    /// The gateway's address with prefix.
    #[serde(default, deserialize_with = "go::optional_cidr", serialize_with = "go::or_empty")]
    pub gateway: Option<IpNetwork>,
    /// Reserved addresses (`--aux-address`), by name.
    #[serde(default, deserialize_with = "go::nullable")]
    pub aux_addresses: BTreeMap<String, IpNetwork>,
}

/// Argument of `NetworkDriver.CreateNetwork` and `AllocateNetwork`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateNetwork {
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network_id: NetworkId,
    /// The engine's options, and the user's under [`go::GENERIC`] (`AllocateNetwork`: the user's at the top level).
    #[serde(rename = "Options", default, deserialize_with = "go::nullable")]
    pub options: Options,
    /// IPv4 subnets; none with `--ipv4=false`.
    #[serde(rename = "IPv4Data", default, deserialize_with = "go::objects")]
    pub ipv4_data: Vec<IpamData>,
    /// IPv6 subnets.
    #[serde(rename = "IPv6Data", default, deserialize_with = "go::objects")]
    pub ipv6_data: Vec<IpamData>,
}

/// Reply of `NetworkDriver.AllocateNetwork`: the options passed to `CreateNetwork` on every node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AllocateReply {
    /// The user's options and those added by the driver.
    pub options: BTreeMap<String, String>,
}

/// Argument of `NetworkDriver.DeleteNetwork` and `FreeNetwork`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkRef {
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network_id: NetworkId,
}

/// Argument of `NetworkDriver.DiscoverNew` and `DiscoverDelete`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Discovery {
    /// 1: a node.
    pub discovery_type: i64,
    /// The node.
    #[serde(default, deserialize_with = "go::object")]
    pub discovery_data: DiscoveryNode,
}

/// A node of the cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiscoveryNode {
    /// Address for data traffic.
    #[serde(deserialize_with = "go::optional_address", serialize_with = "go::or_empty")]
    pub address: Option<IpAddr>,
    /// Whether this is the local engine.
    #[serde(rename = "Self", deserialize_with = "go::nullable")]
    pub is_self: bool,
}
