// SPDX-License-Identifier: Apache-2.0
//! The links by which traffic leaves the host, of the kinds that containers and virtual machines of its own have too.
//!
//! Links of other kinds, such as network cards, bonds and VPNs, always do. Names do not tell: Docker's bridges
//! have any that a user gives them.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use ciao_common::types::LinkName;

use super::message;
use super::netlink::Netlink;

/// Those by which traffic leaves the host.
pub(super) fn links() -> Result<Vec<LinkName>> {
    let links = Netlink::open()?.dump(message::get_all(), message::read).context("list links")?;
    let known = Links { links: &links, routed: default_routes() };
    let is_egress = |link: &&message::Link| (link.is_bridge || link.is_local || link.is_upper) && known.leads_out(link);
    Ok(links.iter().filter(is_egress).filter_map(|link| link.name.parse().ok()).collect())
}

/// All links, and those of default routes.
struct Links<'a> {
    links: &'a [message::Link],
    routed: BTreeSet<String>,
}

impl Links<'_> {
    /// Whether a default route leads over a link; a bridge with a port that leads out; what is on a link that does, or
    /// on one that is another namespace's; and whatever has no other end on this host, such as a network card, a bond
    /// or a tunnel.
    fn leads_out(&self, link: &message::Link) -> bool {
        let mut ports = self.links.iter().filter(|port| link.is_bridge && port.controller == Some(link.index));
        let lower = link.lower.filter(|_| link.is_upper && link.peer_namespace.is_none());
        let lower = lower.and_then(|lower| self.links.iter().find(|link| link.index == lower));
        self.routed.contains(&link.name)
            || ports.any(|port| self.leads_out(port))
            || !(link.is_bridge || link.is_local) && lower.is_none_or(|lower| self.leads_out(lower))
    }
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
