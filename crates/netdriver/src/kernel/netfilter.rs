//! Elements of nftables' sets and maps, changed over netlink: no process, no look at the rules, the same cost whatever
//! else is in the set.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use super::element::{Change, Element, Key, Part, Table};

/// The kernel answers in microseconds, unless somebody else changes rules now.
const PATIENCE: Duration = Duration::from_secs(3);
/// `NFNL_SUBSYS_NFTABLES` of linux/netfilter/nfnetlink.h: whose transaction it is.
const NFTABLES: u16 = 10;
/// `IFNAMSIZ` of linux/if.h: the size of a link's name as a key.
const LINK_NAME: usize = 16;
/// Larger than any answer to one transaction: an error repeats the message that it is about.
const DATAGRAM: usize = 64 << 10;

// Of linux/netfilter/nf_tables.h; the crate's own types for them are not public.
const NFT_MSG_NEWSETELEM: u8 = 12;
const NFT_MSG_DELSETELEM: u8 = 14;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;

/// Whether elements can be told in netlink messages; ranges and limits need nft's own translation.
pub(super) fn understands(elements: &[Element]) -> bool {
    elements.iter().all(|element| matches!(element.key, Key::Parts(_)) && element.limit.is_none())
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
        // An error is told in any case; of successes, the last one's is enough.
        let acknowledge = if number == last { NLM_F_ACK } else { 0 };
        let create = if change == Change::Add { NLM_F_CREATE } else { 0 };
        write(&mut bytes, message(element, change), number, acknowledge | create);
    }
    write(&mut bytes, control(ControlMessage::BatchEnd.into()), last + 1, 0);
    socket.send(&bytes, 0).context("send to the kernel")?;
    hear(socket, elements, last)
}

/// Waits for the last message's acknowledgement, or for an error of any.
fn hear(socket: &Socket, elements: &[Element], last: u32) -> Result<()> {
    let mut buffer = Vec::with_capacity(DATAGRAM);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0).context("hear from the kernel")?;
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
    let data = |kind, parts: &[Part]| nested(kind, &[DefaultNla::new(NFTA_DATA_VALUE, bytes_of(parts))]);
    let mut parts = Vec::new();
    if let Key::Parts(key) = &element.key {
        parts.push(data(NFTA_SET_ELEM_KEY, key));
    }
    if change == Change::Add && !element.value.is_empty() {
        parts.push(data(NFTA_SET_ELEM_DATA, &element.value));
    }
    let text = |kind, text: &str| DefaultNla::new(kind, text.bytes().chain([0]).collect());
    let attributes = vec![
        text(NFTA_SET_ELEM_LIST_TABLE, "ciao"),
        text(NFTA_SET_ELEM_LIST_SET, element.set),
        nested(NFTA_SET_ELEM_LIST_ELEMENTS, &[nested(NFTA_LIST_ELEM, &parts)]),
    ];
    let family = match element.table {
        Table::Bridge => NetfilterProtoFamily::Bridge,
        Table::Inet => NetfilterProtoFamily::Inet,
    };
    let message_type = match change {
        Change::Add => NFT_MSG_NEWSETELEM,
        Change::Delete => NFT_MSG_DELSETELEM,
    };
    inner(family, 0, NetfilterMessageInner::Other { subsys: NetfilterSubsystem::NfTables, message_type, attributes })
}

fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
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

/// A key or value as the kernel holds it: each of several parts begins at a multiple of four bytes.
fn bytes_of(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
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
