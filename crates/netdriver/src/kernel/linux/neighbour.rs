// SPDX-License-Identifier: Apache-2.0
//! rtnetlink's messages about neighbours of IP, and about entries of bridges' forwarding databases.

use std::net::IpAddr;

use ciao_common::types::MacAddr;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

/// Every neighbour of IP, or every entry of the bridges' forwarding databases.
pub(super) fn get_all(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    RouteNetlinkMessage::GetNeighbour(message)
}

/// Reads a reply to [`get_all`], if the entry is static: the link's index, its address if it is a neighbour of IP,
/// the MAC address.
pub(super) fn read_static(message: &RouteNetlinkMessage) -> Option<(u32, Option<IpAddr>, MacAddr)> {
    let RouteNetlinkMessage::NewNeighbour(entry) = message else { return None };
    let is_static = match entry.header.family {
        AddressFamily::Bridge => entry.header.flags.contains(NeighbourFlags::Sticky),
        _ => entry.header.state == NeighbourState::Permanent,
    };
    let (mut address, mut mac) = (None, None);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = MacAddr::from_bytes(bytes),
            _ => {}
        }
    }
    mac.filter(|_| is_static).map(|mac| (entry.header.ifindex, address, mac))
}

/// The forwarding database's entry of a MAC address behind a port.
pub(super) fn forwarding(port: u32, mac: MacAddr) -> NeighbourMessage {
    let mut entry = NeighbourMessage::default();
    entry.header.family = AddressFamily::Bridge;
    entry.header.ifindex = port;
    entry.header.state = NeighbourState::Noarp;
    entry.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
    entry.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
    entry
}

/// A permanent neighbour on a link.
pub(super) fn permanent(link: u32, address: IpAddr, mac: MacAddr) -> NeighbourMessage {
    let mut entry = destination(link, address);
    entry.header.state = NeighbourState::Permanent;
    entry.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
    entry
}

/// An address on a link, as far as it takes to remove it.
pub(super) fn destination(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut entry = NeighbourMessage::default();
    entry.header.family = address.into();
    entry.header.ifindex = link;
    entry.attributes.push(NeighbourAttribute::Destination(address.into()));
    entry
}
