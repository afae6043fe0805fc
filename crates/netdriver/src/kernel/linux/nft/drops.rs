// SPDX-License-Identifier: Apache-2.0
//! The named counters of ciao's tables, by netlink: a scrape asks for those of each tenant.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use super::elements::inner;
use super::guard;
use crate::kernel::element::Table;
use crate::kernel::linux::netlink::Netlink;

/// Of linux/netfilter/nf_tables.h: attributes of objects, and of a counter's data.
const NFTA_OBJ_TABLE: u16 = 1;
const NFTA_OBJ_NAME: u16 = 2;
const NFTA_OBJ_DATA: u16 = 4;
const NFTA_COUNTER_PACKETS: u16 = 2;

/// Packets of each counter, in the namespace of the socket: of ciao's tables and of the guard of the host's, which sees
/// a packet before them or not at all. No table: none.
pub(super) fn list(socket: &mut Netlink<NetfilterMessage>) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for table in [Table::Inet.names()[1], guard::TABLE] {
        for (name, packets) in of_table(socket, table)? {
            *found.entry(name).or_default() += packets;
        }
    }
    Ok(found)
}

fn of_table(socket: &mut Netlink<NetfilterMessage>, table: &str) -> Result<Vec<(String, u64)>> {
    let of_table = DefaultNla::new(NFTA_OBJ_TABLE, [table.as_bytes(), &[0]].concat());
    let question = NfTablesMessage::GetObject(vec![of_table]);
    // Of all families: tables of both have the same name.
    let message = inner(NetfilterProtoFamily::Unspec, 0, question.into());
    socket.dump(message, counter).context("list counters")
}

fn counter(message: &NetfilterMessage) -> Option<(String, u64)> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewObject(attributes)) = &message.inner else { return None };
    let value = |kind| attributes.iter().find(|attribute| attribute.kind() == kind).map(bytes);
    let name = String::from_utf8(value(NFTA_OBJ_NAME)?).ok()?;
    let data = value(NFTA_OBJ_DATA)?;
    Some((name.trim_end_matches('\0').to_owned(), packets(&data)?))
}

fn bytes(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}

/// The packets among a counter's attributes, each of which has 2 bytes length and 2 bytes kind before its value.
fn packets(mut data: &[u8]) -> Option<u64> {
    loop {
        let (length, kind) = (number(data)?, number(data.get(2..)?)?);
        if kind == NFTA_COUNTER_PACKETS {
            return Some(u64::from_be_bytes(*data.get(4..)?.first_chunk()?));
        }
        data = data.get(usize::from(length.max(4)).next_multiple_of(4)..)?;
    }
}

fn number(data: &[u8]) -> Option<u16> {
    data.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}
