// SPDX-License-Identifier: Apache-2.0
//! `IpamDriver.*`: pools and addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::go::{self, Options};
use crate::types::{PoolId, Subnet};

/// Key of `RequestAddress.Options` for the purpose of the address.
pub const ADDRESS_TYPE: &str = "RequestAddressType";
/// Value of [`ADDRESS_TYPE`] for the gateway of a network.
pub const GATEWAY: &str = "com.docker.network.gateway";
/// Option of a pool or request: allocate addresses in ascending order, not the lowest free one first. Set by a swarm's
/// leader.
pub const SERIAL: &str = "com.docker.network.ipam.serial";

/// Reply of `IpamDriver.GetCapabilities`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Capabilities {
    /// The engine must choose a MAC address before it requests an IP address.
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
    /// One of the reply of `GetDefaultAddressSpaces`.
    #[serde(deserialize_with = "go::nullable")]
    pub address_space: String,
    /// The requested CIDR; `""`: any; `0.0.0.0/24`: any of that size.
    #[serde(deserialize_with = "go::optional", serialize_with = "go::or_empty")]
    pub pool: Option<Subnet>,
    /// The range of dynamic addresses (`--ip-range`).
    #[serde(deserialize_with = "go::optional", serialize_with = "go::or_empty")]
    pub sub_pool: Option<Subnet>,
    /// `--ipam-opt` of the user.
    #[serde(deserialize_with = "go::nullable")]
    pub options: Options,
    /// Whether an IPv6 pool is requested.
    #[serde(rename = "V6", deserialize_with = "go::nullable")]
    pub v6: bool,
}

/// Reply of `IpamDriver.RequestPool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PoolReply {
    /// The id of the pool in further requests.
    #[serde(rename = "PoolID")]
    pub pool_id: PoolId,
    /// The CIDR of the whole pool.
    pub pool: Subnet,
    /// Unused.
    #[serde(default, deserialize_with = "go::nullable")]
    pub data: BTreeMap<String, String>,
}

/// Argument of `IpamDriver.ReleasePool`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleasePool {
    /// The pool; `""` if a swarm's leader has lost it.
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
    /// The requested address, bare; `""`: any.
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
    /// The address with the prefix of the whole pool.
    pub address: String,
    /// Unused.
    #[serde(default, deserialize_with = "go::nullable")]
    pub data: BTreeMap<String, String>,
}

/// Argument of `IpamDriver.ReleaseAddress`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReleaseAddress {
    /// The pool; `""` if a swarm's leader has lost it.
    #[serde(rename = "PoolID", default, deserialize_with = "go::nullable")]
    pub pool_id: String,
    /// The address, bare.
    #[serde(deserialize_with = "go::required_address")]
    pub address: IpAddr,
}
