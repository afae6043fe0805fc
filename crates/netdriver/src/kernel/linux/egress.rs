// SPDX-License-Identifier: Apache-2.0
//! The links by which traffic leaves the host, of the kinds that containers and virtual machines of its own have too.
//!
//! Links of other kinds, such as network cards, bonds, VLANs and VPNs, always do. Names do not tell: Docker's bridges
//! have any that a user gives them.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use ciao_common::types::LinkName;

use super::message;
use super::netlink::Netlink;

/// Those that a default route leads over; and bridges with a port that is neither a veth's end nor a tap, such as a
/// network card, a bond, a VLAN or a tunnel.
pub(super) fn links() -> Result<Vec<LinkName>> {
    let links = Netlink::open()?.dump(message::get_all(), message::read).context("list links")?;
    let outward: BTreeSet<u32> =
        links.iter().filter(|link| !link.is_local).filter_map(|link| link.controller).collect();
    let routed = default_routes();
    let is_egress = |link: &&message::Link| {
        link.is_bridge && outward.contains(&link.index)
            || (link.is_bridge || link.is_local) && routed.contains(&link.name)
    };
    Ok(links.iter().filter(is_egress).filter_map(|link| link.name.parse().ok()).collect())
}

/// The links of the default routes, IPv4's and IPv6's (proc(5), /proc/net/route; ipv6_route has the prefix length
/// second and the link last).
fn default_routes() -> BTreeSet<String> {
    let [v4, v6] =
        ["route", "ipv6_route"].map(|name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
    let mut links = BTreeSet::new();
    for line in v4.lines() {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        if let [link, "00000000", .., "00000000", _, _, _] = fields[..] {
            links.insert(link.to_owned());
        }
    }
    for line in v6.lines() {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        // Unreachable defaults are lo's.
        if let [_, "00", .., link] = fields[..]
            && link != "lo"
        {
            links.insert(link.to_owned());
        }
    }
    links
}
