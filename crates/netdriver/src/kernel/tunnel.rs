// SPDX-License-Identifier: Apache-2.0
//! Tunnels to other hosts: VXLAN links on tenants' bridges, with static tables and without learning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use ciao_common::types::{LinkName, MacAddr, Mtu};

use super::element::{Change, Element, Ruleset};

/// Deletes the rules of tunnels, by nft.
pub(crate) const DELETE_TUNNEL_RULES: &str = "table inet ciao_tunnel\ndelete table inet ciao_tunnel\n";

/// A VXLAN link on a tenant's bridge, with the entries of other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanLink {
    /// The network namespace of the bridge.
    pub namespace: String,
    /// The bridge that it is a port of.
    pub bridge: LinkName,
    /// Its name.
    pub link: LinkName,
    /// The network's identifier in each frame, 1 to 16777215.
    pub vni: u32,
    /// The host's address that frames leave with.
    pub local: IpAddr,
    /// The UDP port of every host.
    pub port: u16,
    /// In bytes; `None`: the kernel's default.
    pub mtu: Option<Mtu>,
    /// The MAC address that the bridge, if it is ours, has on every host.
    pub gateway: MacAddr,
    /// Which host each MAC address is behind, by its number in [`Tunnels::tunnel_hosts`].
    pub macs: BTreeMap<MacAddr, u32>,
    /// The MAC addresses of IP addresses on other hosts: the bridge answers for them.
    pub neighbours: BTreeMap<IpAddr, MacAddr>,
    /// The number of the host by which packets of the bridge leave the tenant's subnets, in place of the namespace's
    /// uplink.
    pub exit: Option<u32>,
    /// The hosts that broadcast and multicast go to; `None`: they stay on this one.
    pub flood: Option<BTreeSet<IpAddr>>,
    /// The addresses of VNICs of this host on the bridge, whose entries stay as they are.
    pub own: BTreeSet<IpAddr>,
}

/// A link of the host that tunnels leave by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Underlay {
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether it encrypts what it sends.
    pub is_encrypted: bool,
}

/// Other hosts, and links to them.
pub trait Tunnels {
    /// The other hosts' addresses in the kernel, by number.
    fn tunnel_hosts(&self) -> Result<BTreeMap<u32, IpAddr>>;

    /// A link of the host; without addresses if it does not exist.
    fn underlay(&self, link: &LinkName) -> Result<Underlay>;

    /// Sets another host's address, for every link that leads to it at once.
    fn set_tunnel_host(&self, number: u32, address: IpAddr) -> Result<()>;

    /// Removes another host, and every entry that leads to it. Absent: nothing to do.
    fn delete_tunnel_host(&self, number: u32) -> Result<()>;

    /// Whether another host answers an echo request of so many bytes that is not fragmented.
    fn echo(&self, from: IpAddr, to: IpAddr, bytes: u32) -> Result<bool>;

    /// Gives a bridge that is ours the MAC address that its gateway has on every host.
    fn set_gateway_mac(&self, namespace: &str, bridge: &LinkName, mac: MacAddr) -> Result<()>;

    /// Makes a link and its entries as they are described; foreign entries are deleted.
    fn ensure_tunnel(&self, link: &VxlanLink) -> Result<()>;

    /// Deletes a link and what leads from its bridge to a concentrator. Absent: nothing to do.
    fn delete_tunnel(&self, namespace: &str, bridge: &LinkName, link: &LinkName) -> Result<()>;

    /// Replaces the rules of tunnels on the host; `None`: there are to be none. Returns the generation afterwards, as
    /// [`super::Rules::load_rules`].
    fn load_tunnel_rules(&self, ruleset: Option<&Ruleset>) -> Result<Option<u32>>;

    /// How the rules of tunnels differ from that ruleset; `None`: not at all.
    fn tunnel_rules_difference(&self, ruleset: Option<&Ruleset>) -> Result<Option<String>>;

    /// Changes elements of these rules, as [`super::Rules::change_elements`].
    fn change_tunnel_elements(&self, elements: &[Element], change: Change) -> Result<Option<u32>>;

    /// How many packets were dropped, by the rules' counters. No rules: none.
    fn tunnel_drops(&self) -> Result<BTreeMap<String, u64>>;

    /// How a link differs from what [`Self::ensure_tunnel`] makes; `None`: not at all.
    fn tunnel_difference(&self, link: &VxlanLink) -> Result<Option<String>>;
}
