// SPDX-License-Identifier: Apache-2.0
//! An element of a set or map of ciao's rules: what changes with VNICs, networks and published ports.
//!
//! It is written in two ways: as a line of nft's language, in a whole ruleset, and as a netlink message
//! ([`super::nft`]), which costs no process.

use std::fmt;
use std::net::IpAddr;

use ciao_common::store::Protocol;
use ciao_common::types::{LinkName, MacAddr, Rate, Subnet};

/// Which table an element is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `bridge ciao`: frames of a tenant's bridges.
    Bridge,
    /// `inet ciao`: IPv4 and IPv6.
    Inet,
    /// `inet ciao_tunnel`: what reaches the host's tunnels.
    Tunnel,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bridge, Self::Inet, Self::Tunnel];

    /// Its family and its name.
    #[must_use]
    pub fn names(self) -> [&'static str; 2] {
        match self {
            Self::Bridge => ["bridge", "ciao"],
            Self::Inet => ["inet", "ciao"],
            Self::Tunnel => ["inet", "ciao_tunnel"],
        }
    }
}

/// A value of one of nft's types, or of several joined by dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `ifname`.
    Link(LinkName),
    /// `ether_addr`.
    Mac(MacAddr),
    /// `ipv4_addr` or `ipv6_addr`.
    Address(IpAddr),
    /// `inet_proto`.
    Protocol(Protocol),
    /// `inet_service`.
    Port(u16),
    /// Bytes of a packet.
    Bytes(Vec<u8>),
    /// All addresses of a subnet, in a set with the flag `interval` whose key has other parts too.
    Subnet(Subnet),
}

/// An element that is put in, or taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Of which table the set is.
    pub table: Table,
    /// The set's or map's name.
    pub set: &'static str,
    /// What it is known by.
    pub key: Vec<Part>,
    /// Of a map: what the key leads to. Empty: it is a set.
    pub value: Vec<Part>,
    /// What matches no more often than this passes by.
    pub limit: Option<Rate>,
}

/// All of ciao's rules in a namespace: its tables, whose chains and sets are fixed, and what is in the sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// In nft's language.
    pub tables: String,
    /// Of every set.
    pub elements: Vec<Element>,
}

/// What happens to an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is put in; it may be there already.
    Add,
    /// It is taken out; it must be there.
    Delete,
}

impl Element {
    /// An element of a set whose key is one or more parts.
    pub fn new(table: Table, set: &'static str, key: impl Into<Vec<Part>>) -> Self {
        Self { table, set, key: key.into(), value: Vec::new(), limit: None }
    }

    /// The same in a map.
    #[must_use]
    pub fn leading_to(self, value: impl Into<Vec<Part>>) -> Self {
        Self { value: value.into(), ..self }
    }

    /// The line of nft's language that makes the change.
    pub fn line(&self, change: Change) -> String {
        self.line_in(self.table.names()[1], change)
    }

    /// The same in another table of that family, with a set of the same name.
    pub fn line_in(&self, name: &str, change: Change) -> String {
        let verb = match change {
            Change::Add => "add",
            Change::Delete => "delete",
        };
        let [family, _] = self.table.names();
        format!("{verb} element {family} {name} {} {{ {} }}\n", self.set, self.body(change))
    }

    /// What is between the braces.
    fn body(&self, change: Change) -> String {
        let key = join(&self.key);
        // Value and statement are no part of what an element is known by.
        let (mut value, mut limit) = (String::new(), String::new());
        if change == Change::Add {
            if !self.value.is_empty() {
                value = format!(" : {}", join(&self.value));
            }
            if let Some(rate) = self.limit {
                limit = format!(" limit rate over {} bytes/second burst {} bytes", rate.bytes(), rate.burst());
            }
        }
        format!("{key}{limit}{value}")
    }
}

/// Lines of nft's language that add elements. Those of tunnels, which may be tens of thousands, share a line with
/// others of their set: nft takes half the time.
#[must_use]
pub fn grouped(elements: &[Element]) -> String {
    let runs =
        elements.chunk_by(|one, other| one.table == Table::Tunnel && one.set == other.set && other.table == one.table);
    runs.map(|run| {
        let [family, name] = run[0].table.names();
        let bodies: Vec<_> = run.iter().map(|element| element.body(Change::Add)).collect();
        format!("add element {family} {name} {} {{ {} }}\n", run[0].set, bodies.join(", "))
    })
    .collect()
}

/// Lines of nft's language.
pub fn script(elements: &[Element], change: Change) -> String {
    elements.iter().map(|element| element.line(change)).collect()
}

impl Part {
    /// Whether nft's language can express it: it has no escape for a quotation mark, and reads an asterisk as a
    /// wildcard.
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Link(link) => link.is_plain(),
            _ => true,
        }
    }
}

impl Element {
    /// Whether [`Self::line`] expresses it.
    pub fn is_plain(&self) -> bool {
        self.key.iter().chain(&self.value).all(Part::is_plain)
    }
}

fn join(parts: &[Part]) -> String {
    parts.iter().map(Part::to_string).collect::<Vec<_>>().join(" . ")
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "\"{link}\""),
            Self::Mac(mac) => mac.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Protocol(protocol) => protocol.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Subnet(subnet) => subnet.fmt(f),
            Self::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_taken_out_by_its_key() {
        let port = [Part::Protocol(Protocol::Tcp), Part::Port(80)];
        let map = Element::new(Table::Inet, "ports4", port).leading_to([Part::Port(8080)]);
        assert_eq!(map.line(Change::Add), "add element inet ciao ports4 { tcp . 80 : 8080 }\n");
        assert_eq!(map.line(Change::Delete), "delete element inet ciao ports4 { tcp . 80 }\n");
        let link = Element::new(Table::Bridge, "rate_limited", [Part::Link("hv1".parse().unwrap())]);
        let slow = Element { limit: Some("1mbit".parse().unwrap()), ..link };
        assert!(slow.line(Change::Add).contains("{ \"hv1\" limit rate over 125000 bytes/second burst "));
        assert_eq!(slow.line(Change::Delete), "delete element bridge ciao rate_limited { \"hv1\" }\n");
        let (one, two) = ([Part::Port(1)], [Part::Port(2)]);
        let all =
            [("a", &one), ("a", &two), ("b", &one)].map(|(set, key)| Element::new(Table::Tunnel, set, key.clone()));
        assert_eq!(grouped(&all), "add element inet ciao_tunnel a { 1, 2 }\nadd element inet ciao_tunnel b { 1 }\n");
    }
}
