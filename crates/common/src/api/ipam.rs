// SPDX-License-Identifier: Apache-2.0
//! `IpamDriver.*`: pools and addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::go::{self, Options};
use crate::types::{PoolId, Subnet};

/// Key of `RequestAddress.Options` that says what the address is for.
pub const ADDRESS_TYPE: &str = "RequestAddressType";
/// Its value for a network's gateway.
pub const GATEWAY: &str = "com.docker.network.gateway";
/// Option of a pool or request: give addresses one after the other and not the lowest free one. A swarm's leader sets it.
pub const SERIAL: &str = "com.docker.network.ipam.serial";

/// Reply of `IpamDriver.GetCapabilities`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Capabilities {
    /// The engine must make up a MAC address before it asks for an IP address.
    #[serde(rename = "RequiresMACAddress")]
    pub requires_mac_address: bool,
    /// The engine must repeat all pool requests after its start.
    #[serde(rename = "RequiresRequestReplay")]
    pub requires_request_replay: bool,
}

/// Reply of `IpamDriver.GetDefaultAddressSpaces`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddressSpaces {
    /// For networks of one engine.
    pub local_default_address_space: String,
    /// For networks of a swarm, on its leader.
    pub global_default_address_space: String,
}

/// Argument of `IpamDriver.RequestPool`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestPool {
    /// One of the two that `GetDefaultAddressSpaces` answered.
    #[serde(deserialize_with = "go::nullable")]
    pub address_space: String,
    /// The CIDR asked for; `""` for any; `0.0.0.0/24` for any of that size.
    #[serde(deserialize_with = "go::optional", serialize_with = "go::or_empty")]
    pub pool: Option<Subnet>,
    /// The part of it that dynamic addresses come from (`--ip-range`).
    #[serde(deserialize_with = "go::optional", serialize_with = "go::or_empty")]
    pub sub_pool: Option<Subnet>,
    /// `--ipam-opt` of the user.
    #[serde(deserialize_with = "go::nullable")]
    pub options: Options,
    /// Whether an IPv6 pool is meant.
    #[serde(rename = "V6", deserialize_with = "go::nullable")]
    pub v6: bool,
}

/// Reply of `IpamDriver.RequestPool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PoolReply {
    /// What the engine names the pool by from now on.
    #[serde(rename = "PoolID")]
    pub pool_id: PoolId,
    /// The canonical CIDR of the whole pool.
    pub pool: Subnet,
    /// Nothing of ours.
    #[serde(default, deserialize_with = "go::nullable")]
    pub data: BTreeMap<String, String>,
}

/// Argument of `IpamDriver.ReleasePool`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleasePool {
    /// The pool. A swarm's leader that does not know it any more sends `""`.
    #[serde(rename = "PoolID", default, deserialize_with = "go::nullable")]
    pub pool_id: String,
}

/// Argument of `IpamDriver.RequestAddress`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestAddress {
    /// The pool.
    #[serde(rename = "PoolID")]
    pub pool_id: PoolId,
    /// The address asked for, bare; `""` for any.
    #[serde(default, deserialize_with = "go::optional_address", serialize_with = "go::or_empty")]
    pub address: Option<IpAddr>,
    /// The engine's (gateway, MAC address) and, on a swarm's leader, the user's.
    #[serde(default, deserialize_with = "go::nullable")]
    pub options: Options,
}

/// Reply of `IpamDriver.RequestAddress`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddressReply {
    /// The address with the whole pool's prefix.
    pub address: String,
    /// Nothing of ours.
    #[serde(default, deserialize_with = "go::nullable")]
    pub data: BTreeMap<String, String>,
}

/// Argument of `IpamDriver.ReleaseAddress`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReleaseAddress {
    /// The pool. A swarm's leader that does not know it any more sends `""`.
    #[serde(rename = "PoolID", default, deserialize_with = "go::nullable")]
    pub pool_id: String,
    /// The address, bare.
    #[serde(deserialize_with = "go::required_address")]
    pub address: IpAddr,
}
