// SPDX-License-Identifier: Apache-2.0
//! The ruleset of the host's namespace.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ciao_common::store::{Egress, Network, Port, Uplink};
use ciao_common::types::{LinkName, Subnet};

use super::egress::listed;
use super::elements::{host_elements, outer_port};
use crate::kernel::element::{Change, Element, Part, Ruleset, Table, script};

const RULESET: &str = include_str!("host.nft");

/// The part of it that keeps tenants in: chains, and the sets and counters that they name.
pub(crate) const HOST_FILTER: &str = include_str!("host_filter.nft");

/// Whether an element is in a set of the filter.
pub(crate) fn is_in_filter(element: &Element) -> bool {
    HOST_FILTER.contains(&format!("set {} ", element.set))
}

/// Deletes the host's rules.
pub(crate) const DELETE_HOST_RULES: &str = "table inet ciao\ndelete table inet ciao\n";

/// How many ranges of source ports there are: tenants share one when there are more of them.
const NAT_RANGES: u32 = 16;
/// The first port of the first range. Those from 32768 on are the host's own (net.ipv4.ip_local_port_range).
const FIRST_NAT_PORT: u32 = 1024;
/// The most that a tenant can have of them.
pub const MOST_NAT_PORTS: u32 = (32768 - FIRST_NAT_PORT) / NAT_RANGES;

/// What an administrator sets for all tenants' egress.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    /// Resolvers beside those of the host's resolv.conf, whose port 53 tenants reach.
    pub resolvers: Vec<IpAddr>,
    /// What no tenant reaches, unless its network's `egress_allow` has it.
    pub deny: Vec<Subnet>,
}

/// How traffic leaves the host now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostEgress {
    /// Bridges, veths and taps that lead out of it, unlike those of its own containers and machines.
    pub(crate) links: Vec<LinkName>,
    /// The resolvers that containers are given.
    pub(crate) resolvers: BTreeSet<IpAddr>,
}

/// The whole ruleset, with published ports, the address of the uplink that each is forwarded to, and how traffic leaves
/// the host.
pub(crate) fn host_ruleset(
    networks: &[Network],
    uplinks: &[Uplink],
    ports: &[(Port, IpAddr)],
    egress: &HostEgress,
    deny: &[Subnet],
    nat_ports: u32,
) -> Ruleset {
    let mut elements = Vec::new();
    for uplink in uplinks {
        let networks = || networks.iter().filter(|network| network.namespace.as_ref() == Some(&uplink.namespace));
        elements.extend(networks().flat_map(|network| host_elements(network, &uplink.host_link)));
        let allowed =
            networks().filter(|network| network.egress == Egress::Nat).flat_map(|network| &network.egress_allow);
        elements.extend(listed(["egress_allow4", "egress_allow6"], Some(&uplink.host_link), allowed));
        let open: BTreeSet<_> = networks().flat_map(|network| &network.host_access).collect();
        elements.extend(open.into_iter().map(|port| {
            let key = [Part::Link(uplink.host_link.clone()), Part::Protocol(port.protocol), Part::Port(port.number)];
            Element::new(Table::Inet, "host_access", key)
        }));
    }
    elements.extend(ports.iter().map(|(port, uplink)| outer_port(port, *uplink)));
    elements.extend(listed(["egress_deny4", "egress_deny6"], None, deny));
    elements.extend(egress_elements(egress));
    let tables = RULESET.replace("#filter#", HOST_FILTER).replace("#nat_ranges#", &nat_ranges(nat_ports));
    Ruleset { tables, elements }
}

/// A chain for each range: the tenants' traffic leaves with the host's address and a source port out of it. `0`: with
/// any.
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

fn egress_elements(egress: &HostEgress) -> Vec<Element> {
    let links = egress.links.iter().map(|link| Element::new(Table::Inet, "egress_links", [Part::Link(link.clone())]));
    let resolver = |address: &IpAddr| {
        let set = if address.is_ipv4() { "resolvers4" } else { "resolvers6" };
        Element::new(Table::Inet, set, [Part::Address(*address)])
    };
    let resolvers = egress.resolvers.iter().map(resolver);
    links.chain(resolvers).collect()
}

/// Sets how traffic leaves the host.
pub(crate) fn egress_script(egress: &HostEgress) -> String {
    let flush = ["egress_links", "resolvers4", "resolvers6"].map(|set| format!("flush set inet ciao {set}\n")).concat();
    flush + &script(&egress_elements(egress), Change::Add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink_pool::UplinkPool;

    /// The first and the last source port of the range that an uplink's address leads to, by the text of the rules.
    fn range_of(tables: &str, address: IpAddr) -> (u32, u32) {
        let key = match address {
            IpAddr::V4(v4) => IpAddr::from((v4.to_bits() & 0x1e).to_be_bytes()).to_string(),
            IpAddr::V6(v6) => IpAddr::from((v6.to_bits() & 0x1e).to_be_bytes()).to_string(),
        };
        let chain = tables.split_once(&format!("{key} : goto ")).unwrap().1.split([',', ' ', '\n']).next().unwrap();
        let range = tables.split_once(&format!("chain {chain} {{")).unwrap().1.split_once("masquerade to :").unwrap().1;
        let (first, last) = range.lines().next().unwrap().split_once('-').unwrap();
        (first.parse().unwrap(), last.parse().unwrap())
    }

    #[test]
    fn source_ports_of_any_sixteen_tenants_in_a_row_never_overlap() {
        let pool = UplinkPool::new("169.254.64.0/18".parse().unwrap(), "fd00:9::/112".parse().unwrap()).unwrap();
        let egress = HostEgress { links: Vec::new(), resolvers: BTreeSet::new() };
        for ports in (1..MOST_NAT_PORTS).step_by(97).chain([MOST_NAT_PORTS]) {
            let tables = host_ruleset(&[], &[], &[], &egress, &[], ports).tables;
            for (v6, start) in [(false, 0), (true, 0), (false, 1000), (true, 4088)] {
                let ranges: BTreeSet<_> =
                    (start..start + NAT_RANGES).map(|n| range_of(&tables, pool.inner_address(n, v6))).collect();
                let sizes: BTreeSet<_> = ranges.iter().map(|(first, last)| last - first + 1).collect();
                assert_eq!(sizes, [ports].into(), "{ports}");
                assert_eq!(ranges.len(), 16, "{ports}");
                let apart = ranges.iter().zip(ranges.iter().skip(1)).all(|((_, last), (first, _))| last < first);
                let (first, last) = (ranges.first().unwrap().0, ranges.last().unwrap().1);
                assert!(apart && first >= FIRST_NAT_PORT && last < 32768, "{ports}: {ranges:?}");
            }
        }
    }

    #[test]
    fn the_filter_has_all_that_it_names_and_nothing_else() {
        let code = HOST_FILTER.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let code = code.collect::<Vec<_>>().join(" ");
        let words: Vec<_> = code.split(|c: char| c.is_whitespace() || matches!(c, ';' | ',' | '{' | '}')).collect();
        let after = |verbs: &[&str]| -> BTreeSet<&str> {
            words.windows(2).filter(|pair| verbs.contains(&pair[0])).map(|pair| pair[1]).collect()
        };
        let mut named = after(&["jump", "goto", "name"]);
        named.extend(words.iter().filter_map(|word| word.strip_prefix('@')));
        let chains = after(&["chain"]);
        assert_eq!(chains, BTreeSet::from(["forward", "input", "martian", "resolvers"]));
        named.extend(&chains);
        assert_eq!(
            named,
            after(&["set", "map", "counter", "chain"]).into_iter().filter(|name| *name != "name").collect()
        );
        assert!(!code.contains("type nat") && is_in_filter(&Element::new(Table::Inet, "host_access", [])));
        assert!(!is_in_filter(&Element::new(Table::Inet, "ports4", [])));
    }
}
