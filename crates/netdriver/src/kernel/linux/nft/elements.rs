// SPDX-License-Identifier: Apache-2.0
//! Elements of nftables' sets and maps, changed over netlink: no process, no look at the rules, the same cost whatever
//! else is in the set.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_netfilter::nftables::{
    DataAttribute, GenAttribute, GenMessage, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementFlags,
    SetElementList, SetElementMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use crate::kernel::element::{Change, Element, Part, Table};

/// The kernel answers in microseconds, unless somebody else changes rules now.
const PATIENCE: Duration = Duration::from_secs(3);
/// `NFNL_SUBSYS_NFTABLES` of linux/netfilter/nfnetlink.h: whose transaction it is.
const NFTABLES: u16 = 10;
/// `IFNAMSIZ` of linux/if.h: the size of a link's name as a key.
const LINK_NAME: usize = 16;
/// Of linux/netfilter/nf_tables.h.
const NFTA_DATA_VALUE: u16 = 1;
/// Larger than any answer to one transaction: an error repeats the message that it is about.
const DATAGRAM: usize = 64 << 10;

/// How often a set is listed that changes meanwhile.
const DUMPS: u32 = 20;

/// Whether elements can be changed by netlink messages; limits need nft's own translation.
pub(super) fn supports(elements: &[Element]) -> bool {
    elements.iter().all(|element| element.limit.is_none())
}

/// Opens a socket in the calling thread's network namespace.
pub(super) fn open() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER).context("open a netfilter socket")?;
    socket.bind_auto().context("bind a netfilter socket")?;
    let patience = TimeVal::new(PATIENCE.as_secs().try_into()?, 0);
    setsockopt(&socket, ReceiveTimeout, &patience).context("set a netfilter socket's timeout")?;
    Ok(socket)
}

/// Puts elements in, or takes them out, all of them or none, in the namespace of a new socket.
pub(super) fn change(socket: &Socket, elements: &[Element], change: Change) -> Result<()> {
    let last = u32::try_from(elements.len())?;
    let control = |message| inner(NetfilterProtoFamily::Unspec, NFTABLES, message);
    let mut bytes = Vec::new();
    write(&mut bytes, control(ControlMessage::BatchBegin.into()), 0, 0);
    for (number, element) in (1..).zip(elements) {
        // An error is reported in any case; of acknowledgements, the last one's is enough.
        let acknowledge = if number == last { NLM_F_ACK } else { 0 };
        let create = if change == Change::Add { NLM_F_CREATE } else { 0 };
        write(&mut bytes, message(element, change), number, acknowledge | create);
    }
    write(&mut bytes, control(ControlMessage::BatchEnd.into()), last + 1, 0);
    socket.send(&bytes, 0).context("send to the kernel")?;
    receive(socket, elements, last)
}

/// Waits for the last message's acknowledgement, or for an error of any.
fn receive(socket: &Socket, elements: &[Element], last: u32) -> Result<()> {
    let mut buffer = Vec::with_capacity(DATAGRAM);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0).context("receive from the kernel")?;
        let reply = NetlinkMessage::<NetfilterMessage>::deserialize(&buffer).context("read the kernel's reply")?;
        let number = reply.header.sequence_number;
        match reply.payload {
            NetlinkPayload::Error(error) => match error.code {
                None if number == last => return Ok(()),
                None => {}
                Some(code) => {
                    let element = usize::try_from(number)?.checked_sub(1).and_then(|index| elements.get(index));
                    let line = element.map_or_else(String::new, |element| element.line(Change::Add));
                    bail!("change element {}: {}", line.trim_end(), Errno::from_raw(-code.get()).desc());
                }
            },
            _ => bail!("read the kernel's reply: it is neither an acknowledgement nor an error"),
        }
    }
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
        SetElementList::Table("ciao".to_owned()),
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
pub(super) fn generation(socket: &Socket) -> Result<u32> {
    let question = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
    let mut bytes = Vec::new();
    write(&mut bytes, inner(NetfilterProtoFamily::Unspec, 0, question.into()), 1, 0);
    socket.send(&bytes, 0).context("send to the kernel")?;
    let mut buffer = Vec::with_capacity(DATAGRAM);
    socket.recv(&mut buffer, 0).context("receive from the kernel")?;
    let reply = NetlinkMessage::<NetfilterMessage>::deserialize(&buffer).context("read the kernel's reply")?;
    let NetlinkPayload::InnerMessage(NetfilterMessage {
        inner: NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(GenMessage { attributes })),
        ..
    }) = reply.payload
    else {
        bail!("read the kernel's reply: it is no generation of rules");
    };
    let number = attributes.iter().find_map(|attribute| match attribute {
        GenAttribute::Id(number) => Some(*number),
        _ => None,
    });
    number.context("read the kernel's reply: a generation without number")
}

/// Key and value of an element, as the kernel holds them. A range is known by its first address: no two overlap.
pub(super) type Content = (Vec<u8>, Vec<u8>);

/// What the kernel has for an element that stands.
pub(super) fn content(element: &Element) -> Content {
    (bytes_of(&element.key, End::First), bytes_of(&element.value, End::First))
}

/// The elements of a set in one of ciao's tables, in the namespace of the socket.
pub(super) fn dump(socket: &Socket, table: Table, set: &str) -> Result<Vec<Content>> {
    for number in 1..=DUMPS {
        let attributes = vec![SetElementList::Table("ciao".to_owned()), SetElementList::Set(set.to_owned())];
        let question = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
        let mut bytes = Vec::new();
        write(&mut bytes, inner(family(table), 0, question.into()), number, NLM_F_DUMP);
        socket.send(&bytes, 0).context("send to the kernel")?;
        if let Some(found) = receive_all(socket, number).with_context(|| format!("list set {set}"))? {
            return Ok(found);
        }
    }
    bail!("list set {set}: it changed each of {DUMPS} times while it was listed")
}

/// The elements of a reply of many messages; `None` if they changed while the kernel listed them.
fn receive_all(socket: &Socket, number: u32) -> Result<Option<Vec<Content>>> {
    let (mut found, mut is_whole) = (Vec::new(), true);
    let mut buffer = Vec::with_capacity(DATAGRAM);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0).context("receive from the kernel")?;
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let reply = NetlinkMessage::<NetfilterMessage>::deserialize(rest).context("read the kernel's reply")?;
            let length = (reply.header.length as usize).next_multiple_of(4).min(rest.len());
            rest = &rest[length.max(1)..];
            if reply.header.sequence_number != number {
                continue;
            }
            is_whole &= reply.header.flags & NLM_F_DUMP_INTR == 0;
            match reply.payload {
                NetlinkPayload::Done(_) => return Ok(is_whole.then_some(found)),
                NetlinkPayload::Error(error) => {
                    let code = error.code.map_or(0, |code| -code.get());
                    bail!("{}", Errno::from_raw(code).desc());
                }
                NetlinkPayload::InnerMessage(message) => found.extend(contents(message)),
                _ => {}
            }
        }
    }
}

/// The elements of one message. The ends of ranges are left out, and so is what a set begins with that has no range there.
fn contents(message: NetfilterMessage) -> Vec<Content> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewSetElement(message)) = message.inner else {
        return Vec::new();
    };
    let lists = message.attributes.into_iter().filter_map(|attribute| match attribute {
        SetElementList::Elements(elements) => Some(elements),
        _ => None,
    });
    let mut found = Vec::new();
    for element in lists.flatten() {
        let ListAttribute::Element(parts) = element else { continue };
        let (mut key, mut value, mut is_end) = (Vec::new(), Vec::new(), false);
        for part in parts {
            match part {
                SetElementAttribute::Key(DataAttribute::Value(bytes)) => key = bytes,
                SetElementAttribute::Data(DataAttribute::Value(bytes)) => value = bytes,
                SetElementAttribute::Flags(flags) => is_end = flags.contains(SetElementFlags::IntervalEnd),
                _ => {}
            }
        }
        if !is_end {
            found.push((key, value));
        }
    }
    found
}

fn family(table: Table) -> NetfilterProtoFamily {
    match table {
        Table::Bridge => NetfilterProtoFamily::Bridge,
        Table::Inet => NetfilterProtoFamily::Inet,
    }
}

fn inner(family: NetfilterProtoFamily, resource: u16, inner: NetfilterMessageInner) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, resource), inner)
}

fn write(bytes: &mut Vec<u8>, message: NetfilterMessage, number: u32, flags: u16) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = number;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
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
                bytes.extend(match family.address(number) {
                    std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
                    std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
                });
            }
            Part::Link(link) => {
                bytes.extend(link.as_str().bytes().chain(std::iter::repeat(0)).take(LINK_NAME));
            }
            Part::Mac(mac) => bytes.extend(mac.octets()),
            Part::Address(std::net::IpAddr::V4(v4)) => bytes.extend(v4.octets()),
            Part::Address(std::net::IpAddr::V6(v6)) => bytes.extend(v6.octets()),
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
