// SPDX-License-Identifier: Apache-2.0
//! A network as Docker's own API lists it (`GET /networks/ID`), for records that are made again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::go::{self, GENERIC};
use super::network::{CreateNetwork, INTERNAL, IpamData};
use crate::types::{Address, DockerCidr, EndpointId, NetworkId, Subnet, TenantId};

/// Whether a driver that Docker lists is that plugin, as a service of the host or as a managed plugin, which has a tag
/// and may have a registry's name.
pub fn is_plugin(driver: &str, plugin: &str) -> bool {
    let name = driver.rsplit_once('/').map_or(driver, |(_, name)| name);
    name.split_once(':').map_or(name, |(name, _)| name) == plugin
}

/// A network.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ListedNetwork {
    /// Its id.
    pub id: NetworkId,
    /// Its driver; none: ciao-net.
    #[serde(default, deserialize_with = "go::nullable")]
    #[schema(value_type = Option<String>)]
    pub driver: String,
    /// `local` or `swarm`.
    #[serde(default, deserialize_with = "go::nullable")]
    #[schema(value_type = Option<String>)]
    pub scope: String,
    /// `--internal`.
    #[serde(default, deserialize_with = "go::nullable")]
    #[schema(value_type = Option<bool>)]
    pub internal: bool,
    /// The user's options.
    #[serde(default, deserialize_with = "go::nullable")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub options: BTreeMap<String, String>,
    /// Its subnets.
    #[serde(rename = "IPAM", deserialize_with = "go::object")]
    #[schema(value_type = Option<ListedIpam>, required = true)]
    pub ipam: ListedIpam,
    /// The endpoints of running containers, by container.
    #[serde(default, deserialize_with = "go::nullable")]
    #[schema(value_type = Option<BTreeMap<String, ListedEndpoint>>)]
    pub containers: BTreeMap<String, ListedEndpoint>,
}

/// Its IPAM driver and subnets.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ListedIpam {
    /// The driver.
    #[serde(default, deserialize_with = "go::nullable")]
    #[schema(value_type = Option<String>)]
    pub driver: String,
    /// The user's options for it.
    #[serde(default, deserialize_with = "go::nullable")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub options: BTreeMap<String, String>,
    /// The subnets.
    #[serde(default, deserialize_with = "go::objects")]
    #[schema(value_type = Option<Vec<ListedSubnet>>)]
    pub config: Vec<ListedSubnet>,
}

/// What identifies a pool without its PoolID: tenant, subnet, range of dynamic addresses, serial mode.
pub type PoolKey = (Option<TenantId>, Subnet, Option<Subnet>, bool);

/// A subnet.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct ListedSubnet {
    /// The subnet.
    pub subnet: Subnet,
    /// Where dynamic addresses come from, if not the whole subnet.
    #[serde(rename = "IPRange", default, deserialize_with = "go::optional", serialize_with = "go::or_empty")]
    #[schema(value_type = Option<DockerCidr>)]
    pub ip_range: Option<Subnet>,
    /// The gateway, bare or with prefix; older engines list it only if the user gave it.
    #[serde(default, deserialize_with = "go::nullable")]
    #[schema(value_type = Option<String>)]
    pub gateway: String,
    /// Reserved addresses, by name.
    #[serde(default, deserialize_with = "go::nullable")]
    #[schema(value_type = Option<BTreeMap<String, Address>>)]
    pub auxiliary_addresses: BTreeMap<String, IpAddr>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedEndpoint {
    /// Its id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: EndpointId,
    /// Its IPv4 address with prefix.
    #[serde(rename = "IPv4Address", default, deserialize_with = "go::optional_cidr", serialize_with = "go::or_empty")]
    #[schema(value_type = Option<DockerCidr>)]
    pub ipv4_address: Option<IpNetwork>,
    /// Its IPv6 address with prefix.
    #[serde(rename = "IPv6Address", default, deserialize_with = "go::optional_cidr", serialize_with = "go::or_empty")]
    #[schema(value_type = Option<DockerCidr>)]
    pub ipv6_address: Option<IpNetwork>,
    /// Whether its container publishes ports, on whichever network: added to Docker's list.
    #[serde(default)]
    pub publishes: bool,
}

impl ListedSubnet {
    /// The gateway, without a prefix.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway.split('/').next()?.parse().ok()
    }

    /// What `CreateNetwork` says of it.
    ///
    /// # Errors
    /// An address of the other family.
    pub fn data(&self, address_space: String, gateway: Option<IpAddr>) -> anyhow::Result<IpamData> {
        let cidr = |address: IpAddr| IpNetwork::new(address, self.subnet.prefix());
        let aux = self.auxiliary_addresses.iter().map(|(name, address)| Ok((name.clone(), cidr(*address)?)));
        let aux_addresses = aux.collect::<anyhow::Result<_>>()?;
        Ok(IpamData { address_space, pool: self.subnet, gateway: gateway.map(cidr).transpose()?, aux_addresses })
    }
}

impl ListedEndpoint {
    /// Its addresses, IPv4 and IPv6.
    pub fn addresses(&self) -> [Option<IpAddr>; 2] {
        [self.ipv4_address, self.ipv6_address].map(|cidr| cidr.map(|cidr| cidr.ip()))
    }
}

impl ListedNetwork {
    /// The call that created it; `data` are its subnets.
    ///
    /// # Errors
    /// None that is known: the options are text.
    pub fn creation(&self, data: Vec<IpamData>) -> anyhow::Result<CreateNetwork> {
        let options = json!({ GENERIC: self.options, INTERNAL: self.internal });
        let (ipv4_data, ipv6_data) = data.into_iter().partition(|data| data.pool.network().is_ipv4());
        let (network_id, options) = (self.id.clone(), serde_json::from_value(options)?);
        Ok(CreateNetwork { network_id, options, ipv4_data, ipv6_data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_managed_plugin_s_networks_are_ours_too() {
        for driver in ["ciao-net", "ciao-net:latest", "registry:5000/x/ciao-net:2"] {
            assert!(is_plugin(driver, "ciao-net"), "{driver}");
        }
        for driver in ["bridge", "ciao-ipam", "ciao-net/other", "x-ciao-net"] {
            assert!(!is_plugin(driver, "ciao-net"), "{driver}");
        }
    }
}
