// SPDX-License-Identifier: Apache-2.0
//! Tracked connections, removed when what they were tracked for is gone (ctnetlink).
//!
//! A published port's address translation is decided at a flow's first datagram and kept as long as datagrams come. So
//! when a port is published or withdrawn, the flows to it are removed, and the next datagram is decided anew.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::Socket;
use nix::errno::Errno;

use crate::kernel::Flows;

/// Larger than any datagram of a dump.
const DATAGRAM: usize = 64 << 10;
/// A datagram of deletions has at most so many: their answers must fit the socket's buffer.
const AT_ONCE: usize = 64;

/// A direction of a connection.
#[derive(Debug, Default)]
struct Direction {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: Option<u8>,
    port: Option<u16>,
}

/// Removes the connections of the socket's namespace that are meant: one dump, whatever their number.
pub(super) fn forget(socket: &Socket, flows: &Flows) -> Result<()> {
    let found = matching(socket, flows).context("list tracked connections")?;
    for some in found.chunks(AT_ONCE) {
        delete(socket, some).context("remove tracked connections")?;
    }
    Ok(())
}

/// Family and original direction of each.
type Key = (NetfilterProtoFamily, Vec<Tuple>);

fn matching(socket: &Socket, flows: &Flows) -> Result<Vec<Key>> {
    let question = inner(NetfilterProtoFamily::Unspec, ConntrackMessage::Get(Vec::new()));
    socket.send(&bytes(question, 1, NLM_F_DUMP), 0).context("send to the kernel")?;
    let mut found = Vec::new();
    let mut buffer = Vec::with_capacity(DATAGRAM);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0).context("receive from the kernel")?;
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest).context("read the kernel's reply")?;
            let length = (message.header.length as usize).next_multiple_of(4).min(rest.len());
            if length == 0 {
                bail!("read the kernel's reply: a message without length");
            }
            rest = &rest[length..];
            match message.payload {
                NetlinkPayload::InnerMessage(NetfilterMessage {
                    header,
                    inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
                    ..
                }) => found.extend(is_meant(&attributes, flows).map(|tuple| (header.family, tuple))),
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => {
                    let code = error.code.map_or(0, |code| -code.get());
                    bail!("{}", Errno::from_raw(code).desc());
                }
                _ => {}
            }
        }
    }
}

/// The original direction of a connection that is meant.
fn is_meant(attributes: &[ConntrackAttribute], flows: &Flows) -> Option<Vec<Tuple>> {
    let mut original = None;
    let mut reply = Direction::default();
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = Some(tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = direction(tuple),
            _ => {}
        }
    }
    let tuple = original?;
    let there = direction(tuple);
    let meant = match flows {
        Flows::To { addresses, ports } => {
            there.destination.is_some_and(|address| addresses.contains(&address))
                && there.protocol.zip(there.port).is_some_and(|port| ports.contains(&port))
        }
        Flows::Of(addresses) => {
            [there.source, reply.source].into_iter().flatten().any(|address| addresses.contains(&address))
        }
    };
    meant.then(|| tuple.clone())
}

fn direction(tuple: &[Tuple]) -> Direction {
    let mut found = Direction::default();
    for part in tuple {
        match part {
            Tuple::Ip(addresses) => {
                for address in addresses {
                    match address {
                        IPTuple::SourceAddress(address) => found.source = Some(*address),
                        IPTuple::DestinationAddress(address) => found.destination = Some(*address),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(protocol) => found.protocol = Some((*protocol).into()),
                        ProtoTuple::DestinationPort(port) => found.port = Some(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// Removes connections; those that ended meanwhile are no error.
fn delete(socket: &Socket, keys: &[Key]) -> Result<()> {
    let mut datagram = Vec::new();
    for (number, (family, tuple)) in (1..).zip(keys) {
        let attributes = vec![ConntrackAttribute::CtaTupleOrig(tuple.clone())];
        datagram.extend(bytes(inner(*family, ConntrackMessage::Delete(attributes)), number, NLM_F_ACK));
    }
    socket.send(&datagram, 0).context("send to the kernel")?;
    let mut buffer = Vec::with_capacity(DATAGRAM);
    for _ in keys {
        buffer.clear();
        socket.recv(&mut buffer, 0).context("receive from the kernel")?;
        let reply = NetlinkMessage::<NetfilterMessage>::deserialize(&buffer).context("read the kernel's reply")?;
        let NetlinkPayload::Error(error) = reply.payload else { bail!("read the kernel's reply: no acknowledgement") };
        match error.code.map(|code| Errno::from_raw(-code.get())) {
            None | Some(Errno::ENOENT) => {}
            Some(errno) => bail!("{}", errno.desc()),
        }
    }
    Ok(())
}

fn inner(family: NetfilterProtoFamily, message: ConntrackMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}

fn bytes(message: NetfilterMessage, number: u32, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = number;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
