// SPDX-License-Identifier: Apache-2.0
//! Launchers' requests and replies, and their validation.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use ciao_common::api::go;
use ciao_common::types::{
    Address, InstanceId, LinkName, MacAddr, Mtu, Rate, Subnet, TenantId, VnicId, number, parse_address,
};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::address_check::check_address;
use crate::names;

/// The name of a bridge.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_.][A-Za-z0-9_.-]*$", max_length = 15, example = "br-red")]
pub(super) struct BridgeName(#[expect(dead_code, reason = "a schema")] String);

/// A request for a VNIC, as a body of the control socket and as options of the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Args, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VnicRequest {
    /// Tenant that owns the VNIC
    #[arg(long)]
    pub tenant: TenantId,
    /// Instance the VNIC belongs to
    #[arg(long)]
    pub instance: InstanceId,
    /// Subnet of the tenant, such as 192.168.111.0/24
    #[arg(long, value_name = "CIDR")]
    pub subnet: Subnet,
    /// Address of the instance in the subnet
    #[arg(long = "ip", value_name = "ADDRESS", value_parser = parse_address)]
    #[serde(deserialize_with = "go::required_address")]
    #[schema(value_type = Address)]
    pub address: IpAddr,
    /// MAC address of the instance's interface
    #[arg(long)]
    pub mac: MacAddr,
    /// Gateway of the subnet [default: its first address]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    #[serde(default, deserialize_with = "go::optional_address", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Address>)]
    pub gateway: Option<IpAddr>,
    /// MTU of the VNIC in bytes [default: the kernel's]
    #[arg(long, value_name = "BYTES")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// Bridge of the tenant [default: one per subnet]
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BridgeName>)]
    pub bridge: Option<LinkName>,
    /// Existing bridge of the host, without isolation and anti-spoofing
    #[arg(long, value_name = "BRIDGE", conflicts_with = "bridge")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BridgeName>)]
    pub host_bridge: Option<LinkName>,
    /// IPv6 address, for dual stack
    #[arg(long = "ip6", value_name = "ADDRESS", requires = "subnet6", value_parser = parse_address)]
    #[serde(default, deserialize_with = "go::optional_address", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Address>)]
    pub address6: Option<IpAddr>,
    /// Subnet of --ip6
    #[arg(long, value_name = "CIDR", requires = "address6")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<Subnet>,
    /// Additional source address, such as a virtual IP (repeatable)
    #[arg(long = "allow", value_name = "ADDRESS", value_parser = parse_address)]
    #[serde(default, deserialize_with = "go::addresses", skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<Address>>)]
    pub allowed_addresses: Vec<IpAddr>,
    /// Rate limit per direction, such as 100mbit
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Name of the Docker network [default: TENANT-SUBNET]
    #[arg(long, value_name = "NAME")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    pub network: Option<String>,
}

/// A VNIC, as a launcher sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Vnic)]
pub struct VnicReply {
    /// Its ID, which no other VNIC ever has.
    pub id: VnicId,
    /// The container's end, in the host's namespace until Docker takes it.
    pub container_link: LinkName,
    /// The end on the bridge.
    pub host_link: LinkName,
    /// The bridge.
    pub bridge: LinkName,
    /// The bridge's network namespace; absent: the host's.
    pub namespace: Option<String>,
    /// The tenant that owns it.
    pub tenant: Option<TenantId>,
    /// The instance that it is for; null: Docker's own.
    pub instance: Option<InstanceId>,
    /// Its IPv4 subnet, or IPv6 without one.
    pub subnet: Option<Subnet>,
    /// Its address in the subnet.
    #[schema(value_type = Option<Address>)]
    pub address: Option<IpAddr>,
    /// Of the container's end.
    pub mac: MacAddr,
    /// Its gateway.
    #[schema(value_type = Option<Address>)]
    pub gateway: Option<IpAddr>,
    /// MTU in bytes; null: the kernel's.
    pub mtu: Option<Mtu>,
    /// Its IPv6 address, for dual stack.
    #[schema(value_type = Option<Address>)]
    pub address6: Option<IpAddr>,
    /// Subnet of `address6`.
    pub subnet6: Option<Subnet>,
    /// Additional source addresses.
    #[schema(value_type = Vec<Address>)]
    pub allowed_addresses: Vec<IpAddr>,
    /// Rate limit per direction; null: none.
    pub rate: Option<Rate>,
    /// Docker's endpoint that uses it; null: none.
    pub endpoint: Option<String>,
    /// The Docker network that its container runs on.
    pub network: Option<DockerNetwork>,
}

/// A subnet's Docker network.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DockerNetwork {
    /// Its name, if it is created from this description.
    pub name: String,
    /// Docker's ID; absent: not created yet.
    pub id: Option<String>,
    /// Whether it must be created.
    pub create: bool,
    /// The body for Docker's `POST /networks/create`.
    #[schema(value_type = Object)]
    pub docker: Value,
}

/// The result of a deletion.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = Deletion)]
pub struct DeletionReply {
    /// Whether the VNIC existed.
    pub deleted: bool,
    /// The Docker network that its container ran on, if there is one.
    pub network: Option<RemovableNetwork>,
}

/// A Docker network, and whether it can be removed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RemovableNetwork {
    /// Docker's ID.
    pub id: String,
    /// True if no VNIC of a launcher and no endpoint is left on it.
    pub remove: bool,
}

impl VnicRequest {
    /// The requested bridge, the tenant's or the host's.
    pub(super) fn named_bridge(&self) -> Option<&LinkName> {
        self.bridge.as_ref().or(self.host_bridge.as_ref())
    }

    /// Fills in what may be left open, and checks that it makes sense.
    pub fn checked(mut self) -> Result<Self> {
        inside(self.subnet, self.address)?;
        let gateway = *self.gateway.get_or_insert_with(|| self.subnet.first_usable());
        self.subnet.check_for_hosts(Some(gateway))?;
        self.allowed_addresses.iter().try_for_each(|address| check_address(*address).map(drop))?;
        ensure!(
            self.bridge.is_none() || self.host_bridge.is_none(),
            "bridge and host_bridge exclude each other: a VNIC is on one bridge"
        );
        self.named_bridge().map_or(Ok(()), names::check_bridge)?;
        ensure!(
            gateway != self.address,
            "address {gateway} is the gateway's: give another address, or another gateway"
        );
        match (self.subnet6, self.address6) {
            (None, None) => {}
            (Some(subnet), Some(address)) => {
                ensure!(subnet.network().is_ipv6(), "subnet6 {subnet} is not an IPv6 subnet");
                ensure!(self.subnet.network().is_ipv4(), "subnet {} with subnet6 must be an IPv4 subnet", self.subnet);
                subnet.check_for_hosts(None)?;
                inside(subnet, address)?;
                let gateway = subnet.first_usable();
                ensure!(address != gateway, "address6 {address} is the gateway's of subnet {subnet}: give another one");
            }
            (Some(subnet), None) => anyhow::bail!("subnet6 {subnet} needs address6"),
            (None, Some(address)) => anyhow::bail!("address6 {address} needs subnet6"),
        }
        if let Some(name) = &self.network {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            ensure!(
                !name.is_empty() && name.bytes().all(good) && name.as_bytes()[0].is_ascii_alphanumeric(),
                "network {name:?} is not a valid Docker network name: use letters, digits, '_', '.' and '-'"
            );
        }
        Ok(self)
    }
}

fn inside(subnet: Subnet, address: IpAddr) -> Result<()> {
    ensure!(subnet.contains(address), "address {address} is outside of subnet {subnet}: give one inside");
    let usable = subnet.usable().contains(number(address));
    ensure!(usable, "address {address} of subnet {subnet} is the network's or broadcast address: give another one");
    Ok(())
}
