// SPDX-License-Identifier: Apache-2.0
//! The ruleset of tunnels between hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ciao_common::types::{AddressRange, LinkName, MacAddr, Subnet, octets};

use crate::kernel::element::{Element, Part, Ruleset, Table};

const RULESET: &str = include_str!("tunnel.nft");

/// What may be sent to this host's tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TunnelSenders {
    /// The UDP port.
    pub(crate) port: u16,
    /// The link that tunnels leave and arrive by; `None`: any.
    pub(crate) link: Option<LinkName>,
    /// The TCP port of the exchange between hosts.
    pub(crate) exchange: Option<u16>,
    /// The other hosts, all of one family.
    pub(crate) hosts: BTreeSet<IpAddr>,
    /// By VNI.
    pub(crate) networks: BTreeMap<u32, NetworkSenders>,
}

/// What may be sent in a VNI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkSenders {
    /// Whether a host may send with any IP address.
    pub(crate) unfiltered: bool,
    /// Whether hosts route to it, by the gateway's MAC address.
    pub(crate) routed: bool,
    /// Hosts that send what comes from outside of the tenant's subnets.
    pub(crate) concentrators: BTreeSet<IpAddr>,
    /// The tenant's subnets, if there are such hosts.
    pub(crate) inside: BTreeSet<Subnet>,
    /// Host and MAC address.
    pub(crate) macs: BTreeSet<(IpAddr, MacAddr)>,
    /// Host and IP address.
    pub(crate) ips: BTreeSet<(IpAddr, IpAddr)>,
}

impl TunnelSenders {
    /// The rules.
    pub(crate) fn ruleset(&self) -> Ruleset {
        let is_v4 = self.hosts.first().is_none_or(IpAddr::is_ipv4);
        let (ip, kind) = if is_v4 { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
        let by_another =
            |rule: &str| self.link.as_ref().map_or_else(String::new, |link| rule.replace("#link#", link.as_str()));
        let arriving = by_another(r##"iifname != "#link#" counter name strangers drop"##);
        let leaving = by_another(r##"udp dport #port# oifname != "#link#" counter name diverted drop"##);
        let exchanging = self
            .exchange
            .map_or_else(String::new, |port| format!("#ip# daddr @hosts tcp dport {port} counter name forwarded drop"));
        let tables = RULESET.replace("#arriving#", &arriving).replace("#leaving#", &leaving);
        let inside: Vec<_> = self.networks.iter().flat_map(|(vni, network)| network.own_subnets(*vni)).collect();
        let tables = tables.replace("#exchanging#", &exchanging).replace("#inside#", &inside.join("\n\t\t"));
        let tables = tables.replace("#port#", &self.port.to_string()).replace("#ip#", ip).replace("#type#", kind);
        let hosts = self.hosts.iter().map(|host| element("hosts", vec![Part::Address(*host)]));
        let networks = self.networks.iter().flat_map(|(vni, network)| network.elements(self.port, *vni));
        Ruleset { tables, elements: hosts.chain(networks).collect() }
    }
}

impl NetworkSenders {
    /// What this has and another has not.
    pub(crate) fn without(&self, other: &Self) -> Self {
        Self {
            unfiltered: self.unfiltered && !other.unfiltered,
            routed: self.routed && !other.routed,
            concentrators: self.concentrators.difference(&other.concentrators).copied().collect(),
            inside: BTreeSet::new(),
            macs: self.macs.difference(&other.macs).copied().collect(),
            ips: self.ips.difference(&other.ips).copied().collect(),
        }
    }

    /// The rules by which nobody sends as an address in the tenant's subnets from outside.
    fn own_subnets(&self, vni: u32) -> Vec<String> {
        let rule = |subnet: &Subnet| {
            let (protocol, source) =
                if subnet.network().is_ipv4() { ("0x0800", "@th,336,32") } else { ("0x86dd", "@th,304,128") };
            let AddressRange { first, last } = subnet.range();
            format!("@th,96,24 {vni:#x} @th,224,16 {protocol} {source} {first:#x}-{last:#x} return")
        };
        self.inside.iter().map(rule).collect()
    }

    /// In a VNI.
    pub(crate) fn elements(&self, port: u16, vni: u32) -> Vec<Element> {
        let router = MacAddr::gateway(vni);
        let vni = bytes(&vni.to_be_bytes()[1..]);
        let key = |host: IpAddr, part| vec![Part::Address(host), vni.clone(), part];
        let mac = |mac: &MacAddr| bytes(&mac.octets());
        let ip = |(host, ip): &(IpAddr, IpAddr)| {
            element(if ip.is_ipv4() { "ips4" } else { "ips6" }, key(*host, bytes(&octets(*ip))))
        };
        let routers = self.routed.then(|| element("routers", vec![vni.clone(), mac(&router)])).into_iter();
        let macs = self.macs.iter().map(|(host, own)| element("macs", key(*host, mac(own))));
        let outside =
            self.concentrators.iter().map(|host| element("concentrators", vec![Part::Address(*host), vni.clone()]));
        let mut elements: Vec<_> = outside.chain(routers).chain(macs).chain(self.ips.iter().map(ip)).collect();
        if self.unfiltered {
            elements.push(element("unfiltered", vec![Part::Port(port), vni.clone()]));
        }
        elements
    }
}

fn element(set: &'static str, key: Vec<Part>) -> Element {
    Element::new(Table::Tunnel, set, key)
}

fn bytes(raw: &[u8]) -> Part {
    Part::Bytes(raw.to_vec())
}
