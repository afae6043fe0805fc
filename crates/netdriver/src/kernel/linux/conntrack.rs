// SPDX-License-Identifier: Apache-2.0
//! Tracked connections, removed when what they were tracked for is deleted (ctnetlink).
//!
//! A published port's address translation is decided at a flow's first datagram and kept as long as datagrams come. So
//! when a port is published or withdrawn, the flows to it are removed, and the next datagram begins a new one.

use std::net::IpAddr;

use anyhow::{Context, Result};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;

use super::netlink::Netlink;
use crate::kernel::Flows;

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

/// Removes the connections of the socket's namespace that are meant: one list, whatever their number. Those that ended
/// meanwhile are no error.
pub(super) fn forget(netlink: &mut Netlink<NetfilterMessage>, flows: &Flows) -> Result<()> {
    let all = message(NetfilterProtoFamily::Unspec, ConntrackMessage::Get(Vec::new()));
    let found = netlink.dump(all, |reply| deletion(reply, flows)).context("list tracked connections")?;
    for some in found.chunks(AT_ONCE) {
        netlink.execute_all(some.to_vec(), Some(Errno::ENOENT)).context("remove tracked connections")?;
    }
    Ok(())
}

/// The request that removes a connection, if it is meant.
fn deletion(reply: &NetfilterMessage, flows: &Flows) -> Option<(NetfilterMessage, u16)> {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &reply.inner else { return None };
    let tuple = vec![ConntrackAttribute::CtaTupleOrig(is_meant(attributes, flows)?)];
    Some((message(reply.header.family, ConntrackMessage::Delete(tuple)), 0))
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
    let from = [there.source, reply.source];
    let meant = match flows {
        Flows::To { addresses, ports } => {
            there.destination.is_some_and(|address| addresses.contains(&address))
                && there.protocol.zip(there.port).is_some_and(|port| ports.contains(&port))
        }
        Flows::Of(addresses) => from.into_iter().flatten().any(|address| addresses.contains(&address)),
        Flows::Within(subnets) => {
            from.into_iter().flatten().any(|address| subnets.iter().any(|subnet| subnet.contains(address)))
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

fn message(family: NetfilterProtoFamily, message: ConntrackMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}
