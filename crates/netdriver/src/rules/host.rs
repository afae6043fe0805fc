//! The ruleset of the host's namespace.

use std::net::IpAddr;

use ciao_common::store::{Network, Port};
use ciao_common::types::LinkName;

use super::elements::{host_elements, outer_port};
use crate::kernel::element::{Change, Element, Part, Ruleset, Table, script};

const RULESET: &str = include_str!("host.nft");

/// Deletes the host's rules.
pub(crate) const DELETE_HOST_RULES: &str = "table inet ciao\ndelete table inet ciao\n";

/// The whole ruleset, with published ports, the address of the uplink that each is forwarded to, and the bridges by
/// which traffic may leave the host.
pub(crate) fn host_ruleset(networks: &[Network], ports: &[(Port, IpAddr)], egress: &[LinkName]) -> Ruleset {
    let mut elements: Vec<_> = networks.iter().flat_map(host_elements).collect();
    elements.extend(ports.iter().map(|(port, uplink)| outer_port(port, *uplink)));
    elements.extend(egress_bridges(egress));
    Ruleset { tables: RULESET, elements }
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
