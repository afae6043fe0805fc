// SPDX-License-Identifier: Apache-2.0
//! Bridges, VNICs and their addresses.

use std::net::IpAddr;

use anyhow::Result;
use ciao_common::types::{LinkName, MacAddr, Mtu, Rate, Subnet};

use super::namespace::Namespace;

/// A veth pair: one end for a container, in the host's namespace; the other on a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth {
    /// Where the bridge is.
    pub namespace: Namespace,
    /// What the host end is a port of.
    pub bridge: LinkName,
    /// The end on the bridge.
    pub host_link: LinkName,
    /// The container's end.
    pub container_link: LinkName,
    /// Of the container's end.
    pub mac: MacAddr,
    /// The container's own addresses, permanent neighbours of the bridge.
    pub addresses: Vec<IpAddr>,
    /// Whether the bridge learns MAC addresses at this port, and sends there what it has no port for. Otherwise the
    /// container's is all it has.
    pub learns: bool,
    /// Of both ends, in bytes; `None`: the kernel's default.
    pub mtu: Option<Mtu>,
    /// How fast frames go to the container.
    pub rate: Option<Rate>,
    /// The alias of the end on the bridge.
    pub alias: String,
}

/// What has a name in the host's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostLink {
    /// Nothing.
    Absent,
    /// A bridge.
    Bridge,
    /// Some other link.
    Other,
}

/// Where a VNIC's container end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLocation {
    /// In the host's namespace, with this MAC address: no container has it.
    Host(Option<MacAddr>),
    /// In another namespace: a container has it.
    Container,
    /// The pair does not exist.
    Absent,
}

/// Bridges, VNICs and their addresses.
pub trait Links {
    /// What has this name in the host's namespace.
    fn host_link(&self, name: &LinkName) -> Result<HostLink>;

    /// The names of all links in a namespace.
    fn links(&self, namespace: &Namespace) -> Result<Vec<LinkName>>;

    /// Removes a link and, if it is a veth, its peer. Absent: nothing to do.
    fn delete_link(&self, namespace: &Namespace, link: &LinkName) -> Result<()>;

    /// Makes a bridge that is up in a named namespace, if it is not there. `true`: made.
    fn ensure_bridge(&self, namespace: &str, bridge: &LinkName, mtu: Option<Mtu>) -> Result<bool>;

    /// Whether a link is a bridge as [`Self::ensure_bridge`] makes it, and not one of an administrator or a router.
    fn is_own_bridge(&self, namespace: &str, link: &LinkName) -> Result<bool>;

    /// The addresses of every link of a namespace, without IPv6 link-local ones.
    fn addresses(&self, namespace: &str) -> Result<Vec<(LinkName, Subnet, IpAddr)>>;

    /// Adds a gateway's address to a bridge. There already: nothing to do.
    fn add_address(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<()>;

    /// Removes a gateway's address from a bridge. Absent: nothing to do.
    fn remove_address(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<()>;

    /// Makes a VNIC's pair: the container's end in the host's namespace and down, the other up and on its bridge.
    fn create_veth(&self, veth: &Veth) -> Result<()>;

    /// Makes the host end of a VNIC, if it exists, a port of its bridge again, up and with its static entries.
    fn attach(&self, veth: &Veth) -> Result<()>;

    /// Limits what a VNIC receives to its rate, or no longer.
    fn set_rate(&self, veth: &Veth) -> Result<()>;

    /// Gives a link an alias. Absent: nothing to do.
    fn set_alias(&self, namespace: &Namespace, link: &LinkName, alias: &str) -> Result<()>;

    /// Sets a link of a named namespace up.
    fn set_up(&self, namespace: &str, link: &LinkName) -> Result<()>;

    /// Sets links down. Absent ones are no error; all are tried before an error is returned.
    fn set_down(&self, namespace: &Namespace, links: &[LinkName]) -> Result<()>;

    /// Removes the pairs of many VNICs in one go. Absent pairs are no error; all are tried before an error is returned.
    fn delete_veths(&self, veths: &[Veth]) -> Result<()>;

    /// Announces to all ports of a bridge which MAC addresses IP addresses have. No such bridge: nothing to do.
    fn announce(&self, namespace: &str, bridge: &LinkName, entries: &[(IpAddr, MacAddr)]) -> Result<()>;

    /// Removes permanent neighbours of a bridge. Absent ones are no error.
    fn forget_neighbours(&self, namespace: &str, bridge: &LinkName, addresses: &[IpAddr]) -> Result<()>;

    /// Where a VNIC's container end is.
    fn locate(&self, veth: &Veth) -> Result<LinkLocation>;

    /// The index and the MAC address of a link in the host's namespace, without waiting for the RTNL lock; `None` if it
    /// is absent, or cannot be read so.
    fn peek(&self, name: &LinkName) -> Option<(u32, MacAddr)>;

    /// Whether the link with an index from [`Self::peek`] is still in the host's namespace under this name, in a
    /// microsecond and without the RTNL lock.
    fn is_same_link(&self, index: u32, name: &LinkName) -> bool;
}
