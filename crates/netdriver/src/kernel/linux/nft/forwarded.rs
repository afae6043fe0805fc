// SPDX-License-Identifier: Apache-2.0
//! Published ports as the maps of ciao's rules have them.

use anyhow::Result;
use ciao_common::store::Protocol;
use ciao_common::types::from_octets;
use netlink_packet_netfilter::NetfilterMessage;

use super::dump::dump;
use super::elements::Content;
use crate::kernel::element::Table;
use crate::kernel::linux::netlink::Netlink;
use crate::kernel::{ForwardedPort, Namespace};

/// Those in the namespace of the socket.
pub(super) fn list(socket: &mut Netlink<NetfilterMessage>, namespace: &Namespace) -> Result<Vec<ForwardedPort>> {
    let on_host = *namespace == Namespace::Host;
    let mut found = Vec::new();
    for (map, length, has_address) in
        [("ports4", 4, false), ("ports6", 16, false), ("ports4_on", 4, true), ("ports6_on", 16, true)]
    {
        if on_host || !has_address {
            let elements = dump(socket, Table::Inet, map)?;
            found.extend(elements.iter().filter_map(|element| read(element, length, has_address)));
        }
    }
    Ok(found)
}

/// Each part of several begins at a multiple of four bytes.
fn read((key, value): &Content, length: usize, has_address: bool) -> Option<ForwardedPort> {
    let (at, key) = key.split_at_checked(if has_address { length } else { 0 })?;
    let [protocol, _, _, _, high, low, ..] = *key else { return None };
    let (to, port) = value.split_at_checked(length)?;
    Some(ForwardedPort {
        at: from_octets(at),
        protocol: Protocol::ALL.into_iter().find(|known| known.number() == protocol)?,
        number: u16::from_be_bytes([high, low]),
        to: from_octets(to)?,
        port: port.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)),
    })
}
