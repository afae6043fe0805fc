// SPDX-License-Identifier: Apache-2.0
//! The egress path of a network whose egress gateway is a concentrator on another host: by the network's tunnel, in
//! place of the namespace's uplink.
//!
//! What the rules of the namespace mark, as it comes from a bridge, is routed by a table of that network; replies to
//! published ports are not marked, and leave by the uplink. The router is an address that no host has (RFC 7600), a
//! neighbour with the gateway's MAC address behind the tunnel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ciao_common::types::LinkName;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::netlink::Netlink;
use super::uplink::has_ipv6;
use super::{address, neighbour};
use crate::kernel::tunnel::VxlanLink;

/// The mark of tenant.nft.
const MARK: u32 = 0xc1a0;
/// A network's table is this one and its VNI.
const TABLES: u32 = 0xc100_0000;
/// Before the main table's, the second after the first: what the namespace has a subnet for is routed there.
const PRIORITIES: [u32; 2] = [1000, 1001];

fn families() -> &'static [(AddressFamily, IpAddr)] {
    const ALL: [(AddressFamily, IpAddr); 2] = [
        (AddressFamily::Inet, IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8))),
        (AddressFamily::Inet6, IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))),
    ];
    if has_ipv6() { &ALL } else { &ALL[..1] }
}

fn rule(family: AddressFamily, attributes: Vec<RuleAttribute>) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = attributes;
    rule
}

/// The table of subnets alone, and the network's.
fn rules(family: AddressFamily, link: &VxlanLink) -> [RuleMessage; 2] {
    let main = RuleAttribute::Table(u32::from(RouteHeader::RT_TABLE_MAIN));
    let subnets = vec![RuleAttribute::Priority(PRIORITIES[0]), RuleAttribute::SuppressPrefixLen(0), main];
    let own = vec![
        RuleAttribute::Priority(PRIORITIES[1]),
        RuleAttribute::Iifname(link.bridge.to_string()),
        RuleAttribute::FwMark(MARK),
        RuleAttribute::Table(TABLES + link.vni),
    ];
    [rule(family, subnets), rule(family, own)]
}

fn route(index: u32, router: IpAddr, link: &VxlanLink) -> RouteMessage {
    let mut route = address::default_route(index, router);
    route.header.table = RouteHeader::RT_TABLE_UNSPEC;
    route.header.flags = RouteFlags::Onlink;
    route.attributes.push(RouteAttribute::Table(TABLES + link.vni));
    route
}

/// Makes it, or removes it. `index`: the tunnel's. Returns whether packets take another egress path than before.
pub(super) fn ensure(inside: &mut Netlink, index: u32, link: &VxlanLink) -> Result<bool> {
    let mut has_changed = false;
    for (family, router) in families() {
        if link.exit.is_none() {
            // Whichever bridge they are of: nothing is listed where there is no concentrator.
            let table = RuleAttribute::Table(TABLES + link.vni);
            let any = rule(*family, vec![RuleAttribute::Priority(PRIORITIES[1]), table]);
            let remove = || RouteNetlinkMessage::DelRule(any.clone());
            while inside.execute_unless(remove(), 0, Errno::ENOENT).context("remove a routing rule")? {
                has_changed = true;
            }
            let route = RouteNetlinkMessage::DelRoute(route(index, *router, link));
            inside.execute_unless(route, 0, Errno::ESRCH).context("remove the route to a concentrator")?;
            continue;
        }
        for rule in leading(inside, *family, link.vni)?.into_iter().filter(|rule| !is_of(rule, &link.bridge)) {
            let rule = RouteNetlinkMessage::DelRule(rule);
            inside.execute_unless(rule, 0, Errno::ENOENT).context("remove a routing rule of another bridge")?;
        }
        let neighbour = RouteNetlinkMessage::NewNeighbour(neighbour::permanent(index, *router, link.gateway));
        inside.execute(neighbour, NLM_F_CREATE | NLM_F_REPLACE).context("add a concentrator's neighbour entry")?;
        let route = RouteNetlinkMessage::NewRoute(route(index, *router, link));
        inside.execute(route, NLM_F_CREATE | NLM_F_REPLACE).context("route to a concentrator")?;
        for rule in rules(*family, link) {
            let new = RouteNetlinkMessage::NewRule(rule);
            let flags = NLM_F_CREATE | NLM_F_EXCL;
            has_changed |= inside.execute_unless(new, flags, Errno::EEXIST).context("add a routing rule")?;
        }
    }
    Ok(has_changed)
}

/// The rules that lead to a network's table, those of bridges that are gone too.
fn leading(inside: &mut Netlink, family: AddressFamily, vni: u32) -> Result<Vec<RuleMessage>> {
    let mut all = all_rules(inside, family)?;
    all.retain(|rule| rule.attributes.contains(&RuleAttribute::Table(TABLES + vni)));
    Ok(all)
}

fn all_rules(inside: &mut Netlink, family: AddressFamily) -> Result<Vec<RuleMessage>> {
    let mut request = RuleMessage::default();
    request.header.family = family;
    let read = |reply: &RouteNetlinkMessage| match reply {
        RouteNetlinkMessage::NewRule(rule) => Some(rule.clone()),
        _ => None,
    };
    inside.dump(RouteNetlinkMessage::GetRule(request), read).context("list routing rules")
}

fn is_of(rule: &RuleMessage, bridge: &LinkName) -> bool {
    rule.attributes.contains(&RuleAttribute::Iifname(bridge.to_string()))
}

/// Removes what leads from a bridge to a concentrator: its network is deleted.
pub(super) fn forget(inside: &mut Netlink, bridge: &LinkName) -> Result<()> {
    for (family, _) in families() {
        for rule in all_rules(inside, *family)?.into_iter().filter(|rule| is_of(rule, bridge)) {
            let rule = RouteNetlinkMessage::DelRule(rule);
            inside.execute_unless(rule, 0, Errno::ENOENT).context("remove a routing rule of a deleted network")?;
        }
    }
    Ok(())
}

/// Whether it is as [`ensure`] makes it.
pub(super) fn is_right(inside: &mut Netlink, index: u32, link: &VxlanLink) -> Result<bool> {
    let table = TABLES + link.vni;
    let read = |reply: &RouteNetlinkMessage| match reply {
        RouteNetlinkMessage::NewRoute(route) => {
            let is_ours = route.attributes.contains(&RouteAttribute::Table(table))
                && route.attributes.contains(&RouteAttribute::Oif(index));
            is_ours.then_some(route.header.address_family)
        }
        _ => None,
    };
    let routes = inside.dump(address::get_routes(), read).context("list routes")?;
    let mut marked = Vec::new();
    let mut subnets = Vec::new();
    for (family, _) in families() {
        for found in all_rules(inside, *family)? {
            if found.attributes.contains(&RuleAttribute::Table(table)) {
                if !is_of(&found, &link.bridge) {
                    return Ok(false);
                }
                marked.push(*family);
            }
            if found.attributes.contains(&RuleAttribute::Priority(PRIORITIES[0])) {
                subnets.push(*family);
            }
        }
    }
    if link.exit.is_none() {
        return Ok(marked.is_empty() && routes.is_empty());
    }
    // There may be many: they are listed only for a network with a concentrator.
    let neighbours = inside.dump(neighbour::get_all(AddressFamily::Unspec), neighbour::read_static);
    let neighbours = neighbours.context("list neighbours")?;
    Ok(families().iter().all(|(family, router)| {
        let is_neighbour = neighbours.contains(&(index, Some(*router), link.gateway));
        marked.contains(family) && subnets.contains(family) && routes.contains(family) && is_neighbour
    }))
}
