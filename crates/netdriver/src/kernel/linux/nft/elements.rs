// SPDX-License-Identifier: Apache-2.0
//! Elements of nftables' sets and maps, changed over netlink: no process, no look at the rules, the same cost whatever
//! else is in the set.

use anyhow::{Context, Result, bail};
use ciao_common::types::octets;
use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    DataAttribute, GenAttribute, GenMessage, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList,
    SetElementMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use nix::errno::Errno;

use crate::kernel::element::{Change, Element, Part, Table};
use crate::kernel::linux::netlink::Netlink;

/// `NFNL_SUBSYS_NFTABLES` of linux/netfilter/nfnetlink.h: whose transaction it is.
const NFTABLES: u16 = 10;
/// `IFNAMSIZ` of linux/if.h: the size of a link's name as a key.
const LINK_NAME: usize = 16;
/// Of linux/netfilter/nf_tables.h.
const NFTA_DATA_VALUE: u16 = 1;
/// Whether elements can be changed by netlink messages; limits need nft's own translation.
pub(super) fn supports(elements: &[Element]) -> bool {
    elements.iter().all(|element| element.limit.is_none())
}

/// Puts elements in, or takes them out, all of them or none, in the namespace of the socket.
pub(super) fn change(socket: &mut Netlink<NetfilterMessage>, elements: &[Element], change: Change) -> Result<()> {
    let control = |message: ControlMessage| inner(NetfilterProtoFamily::Unspec, NFTABLES, message.into());
    let create = if change == Change::Add { NLM_F_CREATE } else { 0 };
    let mut requests = vec![(control(ControlMessage::BatchBegin), 0)];
    requests.extend(elements.iter().map(|element| (message(element, change), create)));
    // A refusal is reported in any case; of acknowledgements, the last one's is enough.
    if let Some((_, flags)) = requests.last_mut() {
        *flags |= NLM_F_ACK;
    }
    requests.push((control(ControlMessage::BatchEnd), 0));
    let Err((number, errno)) = socket.execute_batch(requests)? else { return Ok(()) };
    let element = number.checked_sub(1).and_then(|index| elements.get(index));
    let line = element.map_or_else(String::new, |element| element.line(Change::Add));
    bail!("change element {}: {}", line.trim_end(), errno.desc())
}

fn message(element: &Element, change: Change) -> NetfilterMessage {
    let mut parts = Vec::new();
    parts.push(SetElementAttribute::Key(DataAttribute::Value(bytes_of(&element.key, End::First))));
    if element.key.iter().any(|part| matches!(part, Part::Subnet(_))) {
        let last = DefaultNla::new(NFTA_DATA_VALUE, bytes_of(&element.key, End::Last));
        parts.push(SetElementAttribute::KeyEnd(vec![last]));
    }
    if change == Change::Add && !element.value.is_empty() {
        parts.push(SetElementAttribute::Data(DataAttribute::Value(bytes_of(&element.value, End::First))));
    }
    let attributes = vec![
        SetElementList::Table(element.table.names()[1].to_owned()),
        SetElementList::Set(element.set.to_owned()),
        SetElementList::Elements(vec![ListAttribute::Element(parts)]),
    ];
    let message = SetElementMessage { attributes };
    let message = match change {
        Change::Add => NfTablesMessage::NewSetElement(message),
        Change::Delete => NfTablesMessage::DeleteSetElement(message),
    };
    inner(family(element.table), 0, message.into())
}

/// A number that the kernel changes with every change of the namespace's rules.
pub(super) fn generation(socket: &mut Netlink<NetfilterMessage>) -> Result<u32> {
    let question = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
    let replies = socket.request(inner(NetfilterProtoFamily::Unspec, 0, question.into()), 0)?;
    let replies = replies.map_err(std::io::Error::from).context("read the generation of rules")?;
    let mut attributes = replies.iter().flat_map(|reply| match &reply.inner {
        NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(message)) => message.attributes.as_slice(),
        _ => &[],
    });
    let number = attributes.find_map(|attribute| match attribute {
        GenAttribute::Id(number) => Some(*number),
        _ => None,
    });
    number.context("read the kernel's reply: it has no generation of rules")
}

/// Whether ciao's table of that family exists.
pub(super) fn has_table(socket: &mut Netlink<NetfilterMessage>, table: Table) -> Result<bool> {
    let attributes = vec![TableAttribute::Name(table.names()[1].to_owned())];
    let question = NfTablesMessage::GetTable(TableMessage { attributes });
    match socket.request(inner(family(table), 0, question.into()), 0)? {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(std::io::Error::from(errno)).context("look up a table"),
    }
}

/// Key and value of an element, as the kernel holds them. A range is known by its first address: no two overlap.
pub(super) type Content = (Vec<u8>, Vec<u8>);

/// What the kernel has for an element.
pub(super) fn content(element: &Element) -> Content {
    (bytes_of(&element.key, End::First), bytes_of(&element.value, End::First))
}

pub(super) fn family(table: Table) -> NetfilterProtoFamily {
    match table {
        Table::Bridge => NetfilterProtoFamily::Bridge,
        Table::Inet | Table::Tunnel => NetfilterProtoFamily::Inet,
    }
}

pub(super) fn inner(family: NetfilterProtoFamily, resource: u16, inner: NetfilterMessageInner) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, resource), inner)
}

/// An end of the range that a subnet is.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

/// A key or value as the kernel holds it: each of several parts begins at a multiple of four bytes.
fn bytes_of(parts: &[Part], end: End) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Part::Subnet(subnet) => {
                let (family, range) = (subnet.family(), subnet.range());
                let number = match end {
                    End::First => range.first,
                    End::Last => range.last,
                };
                bytes.extend(octets(family.address(number)));
            }
            Part::Link(link) => {
                bytes.extend(link.as_str().bytes().chain(std::iter::repeat(0)).take(LINK_NAME));
            }
            Part::Mac(mac) => bytes.extend(mac.octets()),
            Part::Address(address) => bytes.extend(octets(*address)),
            Part::Protocol(protocol) => bytes.push(protocol.number()),
            Part::Port(port) => bytes.extend(port.to_be_bytes()),
            Part::Bytes(raw) => bytes.extend(raw),
        }
        if parts.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}
