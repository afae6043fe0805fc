// SPDX-License-Identifier: Apache-2.0
//! The entries of a tunnel: in its own forwarding database and its bridge's, and neighbours of the bridge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result};
use ciao_common::types::{MacAddr, from_octets};
use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, Nla};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::Netlink;
use super::{neighbour, nexthop};
use crate::kernel::tunnel::VxlanLink;

/// `NDA_NH_ID` of linux/neighbour.h.
const NEXTHOP: u16 = 13;

/// The link's entry of a MAC address.
fn entry(index: u32, mac: MacAddr) -> NeighbourMessage {
    let mut entry = NeighbourMessage::default();
    entry.header.family = AddressFamily::Bridge;
    entry.header.ifindex = index;
    entry.header.state = NeighbourState::Permanent;
    entry.header.flags = NeighbourFlags::Own;
    entry.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
    entry
}

/// The address under which a link has the hosts that it sends broadcast and multicast to.
const ALL: [u8; 6] = [0; 6];

/// The link's entry of one of these hosts.
fn to_all(index: u32, host: IpAddr) -> NeighbourMessage {
    let mut entry = NeighbourMessage::default();
    entry.header.family = AddressFamily::Bridge;
    entry.header.ifindex = index;
    entry.header.state = NeighbourState::Permanent;
    entry.header.flags = NeighbourFlags::Own;
    entry.attributes.push(NeighbourAttribute::LinkLayerAddress(ALL.to_vec()));
    entry.attributes.push(NeighbourAttribute::Destination(host.into()));
    entry
}

/// The entries of a link and its bridge, as they stand.
#[derive(Default)]
pub(super) struct Entries {
    /// The link's own: the MAC address, and the nexthop group; `None`: it leads somewhere by itself.
    link: BTreeMap<MacAddr, Option<u32>>,
    /// The bridge's, behind the link.
    bridge: BTreeSet<MacAddr>,
    /// The hosts that the link sends broadcast and multicast to.
    flood: BTreeSet<IpAddr>,
    /// The bridge's permanent neighbours.
    neighbours: BTreeMap<IpAddr, MacAddr>,
}

impl Entries {
    pub(super) fn read(inside: &mut Netlink, link: u32, bridge: u32) -> Result<Self> {
        let mut entries = Self::default();
        let forwarding = inside.dump(neighbour::get_all(AddressFamily::Bridge), |reply| {
            let RouteNetlinkMessage::NewNeighbour(entry) = reply else { return None };
            (entry.header.ifindex == link).then(|| entry.clone())
        });
        for entry in forwarding.context("list a tunnel's entries")? {
            let (mut mac, mut group, mut host, mut is_zero) = (None, None, None, false);
            for attribute in &entry.attributes {
                match attribute {
                    NeighbourAttribute::LinkLayerAddress(bytes) => {
                        is_zero = *bytes == ALL;
                        mac = MacAddr::from_bytes(bytes);
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => host = from_octets(bytes),
                    NeighbourAttribute::Other(other) => group = group.or(nexthop_of(other)),
                    _ => {}
                }
            }
            entries.flood.extend(host.filter(|_| is_zero));
            match mac {
                Some(mac) if entry.header.flags.contains(NeighbourFlags::Own) => drop(entries.link.insert(mac, group)),
                // The link's own MAC address is permanent there.
                Some(mac) if entry.header.state == NeighbourState::Noarp => drop(entries.bridge.insert(mac)),
                _ => {}
            }
        }
        let neighbours = inside.dump(neighbour::get_all(AddressFamily::Unspec), neighbour::read_static);
        for (index, address, mac) in neighbours.context("list a bridge's neighbours")? {
            if let Some(address) = address.filter(|_| index == bridge) {
                entries.neighbours.insert(address, mac);
            }
        }
        Ok(entries)
    }

    /// What is to be done: neighbours go before entries, and come after them.
    pub(super) fn changes(&self, wanted: &VxlanLink, link: u32, bridge: u32) -> Vec<(RouteNetlinkMessage, u16)> {
        use RouteNetlinkMessage::{DelNeighbour, NewNeighbour};
        const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;
        let mut changes = Vec::new();
        let foreign = |address: &IpAddr| !wanted.neighbours.contains_key(address) && !wanted.own.contains(address);
        changes.extend(
            self.neighbours
                .iter()
                .filter(|(address, _)| foreign(address))
                .map(|(address, mac)| (DelNeighbour(neighbour::permanent(bridge, *address, *mac)), 0)),
        );
        for mac in self.bridge.iter().filter(|mac| !wanted.macs.contains_key(mac)) {
            changes.push((DelNeighbour(neighbour::forwarding(link, *mac)), 0));
        }
        // One that leads somewhere by itself cannot be made one of a group.
        let leads: BTreeMap<_, _> = wanted
            .macs
            .iter()
            .map(|(mac, number)| (*mac, *number))
            .chain(wanted.exit.map(|number| (wanted.gateway, number)))
            .collect();
        let stays = |mac: &MacAddr, group: &Option<u32>| leads.contains_key(mac) && group.is_some();
        for (mac, _) in self.link.iter().filter(|(mac, group)| !stays(mac, group)) {
            changes.push((DelNeighbour(entry(link, *mac)), 0));
        }
        for (mac, number) in &leads {
            let group = nexthop::group(*number);
            if self.link.get(mac) != Some(&Some(group)) {
                let mut entry = entry(link, *mac);
                entry
                    .attributes
                    .push(NeighbourAttribute::Other(DefaultNla::new(NEXTHOP, group.to_ne_bytes().to_vec())));
                changes.push((NewNeighbour(entry), REPLACE));
            }
            // The gateway's own address is the bridge's, and is led to by the tunnel alone.
            if wanted.macs.contains_key(mac) && !self.bridge.contains(mac) {
                changes.push((NewNeighbour(neighbour::forwarding(link, *mac)), REPLACE));
            }
        }
        let flood = wanted.flood.clone().unwrap_or_default();
        changes.extend(self.flood.difference(&flood).map(|host| (DelNeighbour(to_all(link, *host)), 0)));
        let added = flood.difference(&self.flood);
        changes.extend(added.map(|host| (NewNeighbour(to_all(link, *host)), NLM_F_CREATE | NLM_F_APPEND)));
        for (address, mac) in &wanted.neighbours {
            if self.neighbours.get(address) != Some(mac) {
                changes.push((NewNeighbour(neighbour::permanent(bridge, *address, *mac)), REPLACE));
            }
        }
        changes
    }
}

fn nexthop_of(other: &DefaultNla) -> Option<u32> {
    let mut bytes = [0; 4];
    if other.kind() != NEXTHOP || other.value_len() != bytes.len() {
        return None;
    }
    other.emit_value(&mut bytes);
    Some(u32::from_ne_bytes(bytes))
}
