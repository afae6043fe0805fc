// SPDX-License-Identifier: Apache-2.0
//! rtnetlink's messages about addresses and routes.

use std::net::IpAddr;

use ciao_common::types::Subnet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

/// Every address of every link.
pub(super) fn get_all() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

/// Reads a reply to [`get_all`]: index of the link, prefix length, address.
pub(super) fn read_address(message: &RouteNetlinkMessage) -> Option<(u32, u8, IpAddr)> {
    let RouteNetlinkMessage::NewAddress(address) = message else { return None };
    let found = address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        AddressAttribute::Address(address) if address.is_ipv6() => Some(*address),
        _ => None,
    })?;
    Some((address.header.index, address.header.prefix_len, found))
}

/// An address of a link. IPv6: usable at once, as nobody else in the tenant can have the gateway's.
pub(super) fn new(index: u32, subnet: Subnet, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = address.into();
    message.header.prefix_len = subnet.prefix();
    message.header.index = index;
    message.attributes.push(AddressAttribute::Address(address));
    match address {
        IpAddr::V4(_) => message.attributes.push(AddressAttribute::Local(address)),
        IpAddr::V6(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
    }
    message
}

/// The default route by a router on a link.
pub(super) fn default_route(index: u32, router: IpAddr) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = router.into();
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Static;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    route.attributes.push(RouteAttribute::Gateway(router.into()));
    route.attributes.push(RouteAttribute::Oif(index));
    route
}

/// A route to a subnet by a router on a link.
pub(super) fn route_to(index: u32, subnet: Subnet, router: IpAddr) -> RouteMessage {
    let mut route = default_route(index, router);
    route.header.destination_prefix_length = subnet.prefix();
    route.attributes.push(RouteAttribute::Destination(subnet.network().into()));
    route
}

/// Every route of both families.
pub(super) fn get_routes() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetRoute(RouteMessage::default())
}

/// Reads a reply to [`get_routes`], if it is a default route of the main table: its link's index, and its router.
pub(super) fn read_default_route(message: &RouteNetlinkMessage) -> Option<(u32, IpAddr)> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    if route.header.destination_prefix_length != 0 || route.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let (mut link, mut router) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => router = Some(IpAddr::V4(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => router = Some(IpAddr::V6(*v6)),
            _ => {}
        }
    }
    link.zip(router)
}

/// Reads a reply to [`get_routes`], if it is a route of the main table to a subnet that is not link-local.
pub(super) fn read_route(message: &RouteNetlinkMessage) -> Option<Subnet> {
    let RouteNetlinkMessage::NewRoute(route) = message else { return None };
    let prefix = route.header.destination_prefix_length;
    if prefix == 0 || route.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) if !v6.is_unicast_link_local() && !v6.is_multicast() => {
            Some(IpAddr::V6(*v6))
        }
        _ => None,
    })?;
    Subnet::new(destination, prefix).ok()
}
