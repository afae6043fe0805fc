// SPDX-License-Identifier: Apache-2.0
//! The ruleset of the host's namespace.

use std::net::IpAddr;

use ciao_common::store::{Network, Port, Uplink};
use ciao_common::types::LinkName;

use super::elements::{host_elements, outer_port};
use crate::kernel::element::{Change, Element, Part, Ruleset, Table, script};

const RULESET: &str = include_str!("host.nft");

/// Deletes the host's rules.
pub(crate) const DELETE_HOST_RULES: &str = "table inet ciao\ndelete table inet ciao\n";

/// How many ranges of source ports there are: tenants share one when there are more of them.
const NAT_RANGES: u32 = 16;
/// The first port of the first range. Those from 32768 on are the host's own (net.ipv4.ip_local_port_range).
const FIRST_NAT_PORT: u32 = 1024;
/// The most that a tenant can have of them.
pub const MOST_NAT_PORTS: u32 = (32768 - FIRST_NAT_PORT) / NAT_RANGES;

/// The whole ruleset, with published ports, the address of the uplink that each is forwarded to, and the bridges by
/// which traffic may leave the host.
pub(crate) fn host_ruleset(
    networks: &[Network],
    uplinks: &[Uplink],
    ports: &[(Port, IpAddr)],
    egress: &[LinkName],
    nat_ports: u32,
) -> Ruleset {
    let link = |network: &Network| {
        let mut uplinks = uplinks.iter();
        uplinks.find(|uplink| Some(&uplink.namespace) == network.namespace.as_ref()).map(|uplink| &uplink.host_link)
    };
    let of = |network| link(network).map_or_else(Vec::new, |link| host_elements(network, link));
    let mut elements: Vec<_> = networks.iter().flat_map(of).collect();
    elements.extend(ports.iter().map(|(port, uplink)| outer_port(port, *uplink)));
    elements.extend(egress_bridges(egress));
    Ruleset { tables: RULESET.replace("#nat_ranges#", &nat_ranges(nat_ports)), elements }
}

/// A chain for each range: the tenants' traffic leaves with the host's address and a source port out of it. `0`: with any.
fn nat_ranges(ports: u32) -> String {
    let chain = |number: u32| {
        let first = FIRST_NAT_PORT + number * ports;
        let range = match ports {
            0 => String::new(),
            _ => format!("meta l4proto {{ tcp, udp, sctp }} masquerade to :{first}-{}\n", first + ports - 1),
        };
        format!("chain nat_range_{number} {{\n{range}masquerade\n}}\n")
    };
    (0..NAT_RANGES).map(chain).collect()
}

fn egress_bridges(bridges: &[LinkName]) -> impl Iterator<Item = Element> {
    let element = |link: &LinkName| Element::new(Table::Inet, "egress_bridges", [Part::Link(link.clone())]);
    bridges.iter().map(element)
}

/// Sets the bridges by which traffic may leave the host.
pub(crate) fn egress_bridges_script(bridges: &[LinkName]) -> String {
    let elements: Vec<_> = egress_bridges(bridges).collect();
    "flush set inet ciao egress_bridges\n".to_owned() + &script(&elements, Change::Add)
}
