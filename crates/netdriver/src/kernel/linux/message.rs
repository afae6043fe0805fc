// SPDX-License-Identifier: Apache-2.0
//! rtnetlink's messages about links: those that are sent, and what is read out of replies.

use std::os::fd::{AsRawFd, BorrowedFd};

use ciao_common::types::{LinkName, MacAddr, Mtu};
use netlink_packet_route::RouteNetlinkMessage::{self, DelLink, GetLink, NewLink, SetLink};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};

use crate::kernel::state::Traffic;

/// A link.
#[derive(Default)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Option<MacAddr>,
    pub(super) is_up: bool,
    pub(super) is_bridge: bool,
    /// A veth's end, a tap or a port of Open vSwitch: its other end is on this host.
    pub(super) is_local: bool,
    /// A VLAN, a macvlan or an ipvlan on another link.
    pub(super) is_upper: bool,
    /// That link, unless it is in another namespace.
    pub(super) lower: Option<u32>,
    /// The bridge that it is a port of.
    pub(super) controller: Option<u32>,
    /// Whether that bridge learns at it.
    pub(super) learns: Option<bool>,
    /// The id of its peer's namespace in this one, unless it is the same.
    pub(super) peer_namespace: Option<i32>,
    pub(super) alias: Option<String>,
}

/// Reads a reply to [`get`].
pub(super) fn read(message: &RouteNetlinkMessage) -> Option<Link> {
    let NewLink(link) = message else { return None };
    let is_up = link.header.flags.contains(LinkFlags::Up);
    let mut read = Link { index: link.header.index, is_up, ..Link::default() };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => read.name.clone_from(name),
            LinkAttribute::Address(bytes) => read.mac = MacAddr::from_bytes(bytes),
            LinkAttribute::Controller(index) => read.controller = Some(*index),
            LinkAttribute::Link(index) => read.lower = Some(*index),
            LinkAttribute::LinkNetNsId(id) => read.peer_namespace = Some(*id),
            LinkAttribute::IfAlias(alias) => read.alias = Some(alias.clone()),
            LinkAttribute::LinkInfo(infos) => {
                let kind =
                    infos.iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind) } else { None });
                read.learns = infos.iter().find_map(learning);
                read.is_bridge = matches!(kind, Some(InfoKind::Bridge));
                read.is_local = match kind {
                    Some(InfoKind::Veth | InfoKind::Tun) => true,
                    Some(InfoKind::Other(kind)) => kind == "openvswitch",
                    _ => false,
                };
                read.is_upper = matches!(kind, Some(InfoKind::Vlan | InfoKind::MacVlan | InfoKind::IpVlan));
            }
            _ => {}
        }
    }
    Some(read)
}

/// Reads the name and the counters of a link out of a reply to [`get_all`].
pub(super) fn read_traffic(message: &RouteNetlinkMessage) -> Option<(String, Traffic)> {
    let NewLink(link) = message else { return None };
    let traffic = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(counts) => {
            Some(Traffic { received: (counts.rx_bytes, counts.rx_packets), sent: (counts.tx_bytes, counts.tx_packets) })
        }
        _ => None,
    });
    Some((read(message)?.name, traffic?))
}

/// How many MAC addresses a bridge learns at most.
const MOST_LEARNED: u32 = 4096;

fn learning(info: &LinkInfo) -> Option<bool> {
    let LinkInfo::PortData(InfoPortData::BridgePort(settings)) = info else { return None };
    settings.iter().find_map(|setting| match setting {
        InfoBridgePort::Learning(learns) => Some(*learns),
        _ => None,
    })
}

fn indexed(index: u32, attributes: impl IntoIterator<Item = LinkAttribute>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.extend(attributes);
    link
}

pub(super) fn named(name: &LinkName, attributes: impl IntoIterator<Item = LinkAttribute>) -> LinkMessage {
    indexed(0, [LinkAttribute::IfName(name.to_string())].into_iter().chain(attributes))
}

fn up(mut link: LinkMessage) -> LinkMessage {
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

fn address(mac: MacAddr) -> LinkAttribute {
    LinkAttribute::Address(mac.octets().to_vec())
}

/// None for the kernel's default.
pub(super) fn mtu(mtu: Option<Mtu>) -> Option<LinkAttribute> {
    mtu.map(|mtu| LinkAttribute::Mtu(mtu.bytes()))
}

/// Name and MTU of the link with an index.
pub(super) fn read_mtu(message: &RouteNetlinkMessage, index: u32) -> Option<(LinkName, u32)> {
    let NewLink(link) = message else { return None };
    let mtu = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })?;
    (link.header.index == index)
        .then(|| read(message))
        .flatten()
        .and_then(|found| Some((found.name.parse().ok()?, mtu)))
}

/// One link by its name.
pub(super) fn get(name: &LinkName) -> RouteNetlinkMessage {
    GetLink(named(name, []))
}

/// Every link.
pub(super) fn get_all() -> RouteNetlinkMessage {
    GetLink(LinkMessage::default())
}

/// Deletes a link and its peer.
pub(super) fn delete(name: &LinkName) -> RouteNetlinkMessage {
    DelLink(named(name, []))
}

/// Deletes all links of a group.
pub(super) fn delete_group(group: u32) -> RouteNetlinkMessage {
    DelLink(indexed(0, [LinkAttribute::Group(group)]))
}

/// Moves a link into a group.
pub(super) fn set_group(name: &LinkName, group: u32) -> RouteNetlinkMessage {
    SetLink(named(name, [LinkAttribute::Group(group)]))
}

/// Makes a link a port of a bridge, and sets it up.
pub(super) fn set_controller(name: &LinkName, bridge: u32) -> RouteNetlinkMessage {
    SetLink(up(named(name, [LinkAttribute::Controller(bridge)])))
}

/// Sets a link down.
pub(super) fn set_down(name: &LinkName) -> RouteNetlinkMessage {
    let mut link = named(name, []);
    link.header.change_mask = LinkFlags::Up;
    SetLink(link)
}

/// Sets a link up.
pub(super) fn set_up(index: u32) -> RouteNetlinkMessage {
    SetLink(up(indexed(index, [])))
}

/// Gives a link another MAC address.
pub(super) fn set_mac(index: u32, to: MacAddr) -> RouteNetlinkMessage {
    SetLink(indexed(index, [address(to)]))
}

/// Sets the alias of a link.
pub(super) fn set_alias(index: u32, alias: &str) -> RouteNetlinkMessage {
    SetLink(indexed(index, [LinkAttribute::IfAlias(alias.to_owned())]))
}

/// A new bridge, up. Its MAC address is given, because a bridge without one takes its lowest port's, and so changes it
/// under its neighbours as ports come and go.
pub(super) fn new_bridge(name: &LinkName, mac: MacAddr, bytes: Option<Mtu>) -> RouteNetlinkMessage {
    NewLink(up(named(name, [address(mac), bridge_settings()].into_iter().chain(mtu(bytes)))))
}

/// An existing bridge gets the settings of [`new_bridge`].
pub(super) fn configure_bridge(index: u32) -> RouteNetlinkMessage {
    NewLink(indexed(index, [bridge_settings()]))
}

fn bridge_settings() -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(vec![
            // Members of groups are learned too, and a few thousand reports would disable snooping for good: multicast
            // is flooded to every port, as broadcast is.
            InfoBridge::MulticastSnooping(false),
            // By ports that learn (Linux 6.7; older kernels pass over it).
            InfoBridge::FdbMaxLearned(MOST_LEARNED),
        ])),
    ])
}

/// One queue each way: the kernel makes one a processor and takes all but one back, each time waiting for its readers.
const ONE_QUEUE: [LinkAttribute; 2] = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];

/// A new veth pair in one message, sent in the bridge's namespace: the host end up and a port of the bridge, the peer
/// in the container side's namespace with its MAC address.
pub(super) fn new_veth(
    (host_link, bridge_index): (&LinkName, u32),
    (container_link, mac): (&LinkName, MacAddr),
    bytes: Option<Mtu>,
    container_side: BorrowedFd<'_>,
) -> RouteNetlinkMessage {
    let peer = [address(mac), LinkAttribute::NetNsFd(container_side.as_raw_fd())];
    let peer = named(container_link, peer.into_iter().chain(ONE_QUEUE).chain(mtu(bytes)));
    let end = [LinkAttribute::Controller(bridge_index), veth(peer)];
    NewLink(up(named(host_link, end.into_iter().chain(ONE_QUEUE).chain(mtu(bytes)))))
}

/// A new veth pair for a namespace's uplink, sent in that namespace. Its MAC addresses are given: one that the kernel
/// chose is udev's to change under use (systemd.link(5), MACAddressPolicy).
pub(super) fn new_uplink(
    (inner, inner_mac): (&LinkName, MacAddr),
    (host, host_mac): (&LinkName, MacAddr),
    host_side: BorrowedFd<'_>,
) -> RouteNetlinkMessage {
    let peer = named(host, [address(host_mac), LinkAttribute::NetNsFd(host_side.as_raw_fd())]);
    NewLink(named(inner, [address(inner_mac), veth(peer)]))
}

fn veth(peer: LinkMessage) -> LinkAttribute {
    let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)));
    LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), data])
}

/// A bridge port's learning, and its flooding of unknown unicast, both on or both off.
pub(super) fn port_learning(port: u32, learns: bool) -> RouteNetlinkMessage {
    port_settings(port, vec![InfoBridgePort::Learning(learns), InfoBridgePort::UnicastFlood(learns)])
}

/// Settings of a bridge port.
pub(super) fn port_settings(port: u32, settings: Vec<InfoBridgePort>) -> RouteNetlinkMessage {
    let data = LinkInfo::PortData(InfoPortData::BridgePort(settings));
    NewLink(indexed(port, [LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(InfoPortKind::Bridge), data])]))
}
