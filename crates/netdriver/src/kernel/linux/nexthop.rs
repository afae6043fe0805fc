// SPDX-License-Identifier: Apache-2.0
//! Nexthops of forwarding databases (Linux 5.8): one object a host in the host's namespace, which entries in every
//! tenant's namespace refer to. So a host that changes its address is one message.
//!
//! An entry takes a group only, so each host has a nexthop and a group of it alone. The crate of messages has none of
//! these; linux/nexthop.h is short.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use anyhow::{Context, Result};
use ciao_common::types::{from_octets, octets};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use super::datagram::{HEADER, messages};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GATEWAY: u16 = 6;
const NHA_FDB: u16 = 11;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `RTPROT_STATIC`.
const STATIC: u8 = 4;
/// `sizeof(struct nhmsg)`.
const BODY: usize = 8;
/// The first id: far above those that administrators and routing daemons choose.
const FIRST: u32 = 0x6369_0000;
/// How many ids are ciao-net's, two a host.
const IDS: u32 = 0x0010_0000;

/// The nexthop of a host by its number; its group is the next id.
fn id(number: u32) -> u32 {
    FIRST + 2 * number
}

/// What an entry of a forwarding database refers to.
pub(super) fn group(number: u32) -> u32 {
    id(number) + 1
}

/// The hosts that have nexthops of ciao-net's and groups of them.
pub(super) fn list() -> Result<BTreeMap<u32, IpAddr>> {
    let (mut addresses, mut groups) = (BTreeMap::new(), Vec::new());
    for reply in exchange(RTM_GETNEXTHOP, NLM_F_DUMP, &message(0, &[])).context("list nexthops")? {
        let attributes: BTreeMap<u16, &[u8]> = attributes(reply.get(BODY..).unwrap_or_default()).collect();
        let number = |kind| attributes.get(&kind).and_then(|bytes| Some(u32::from_ne_bytes((*bytes).try_into().ok()?)));
        let Some(found) = number(NHA_ID).filter(|found| (FIRST..FIRST + IDS).contains(found)) else { continue };
        match (attributes.get(&NHA_GATEWAY).and_then(|bytes| from_octets(bytes)), (found - FIRST) % 2) {
            (Some(address), 0) => drop(addresses.insert((found - FIRST) / 2, address)),
            (None, 1) => groups.push((found - FIRST) / 2),
            _ => {}
        }
    }
    addresses.retain(|number, _| groups.contains(number));
    Ok(addresses)
}

/// Sets a host's address.
pub(super) fn set(number: u32, to: IpAddr) -> Result<()> {
    let (family, octets) = (if to.is_ipv4() { AF_INET } else { AF_INET6 }, octets(to));
    let nexthop = message(family, &[(NHA_ID, &id(number).to_ne_bytes()), (NHA_GATEWAY, &octets), (NHA_FDB, &[])]);
    // struct nexthop_grp: id, weight less one, reserved.
    let members = [&id(number).to_ne_bytes()[..], &[0; 4]].concat();
    let group = message(0, &[(NHA_ID, &group(number).to_ne_bytes()), (NHA_GROUP, &members), (NHA_FDB, &[])]);
    let replace = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    [nexthop, group]
        .iter()
        .try_for_each(|message| exchange(RTM_NEWNEXTHOP, replace, message).map(drop))
        .with_context(|| format!("set the nexthop of host {to}"))
}

/// Removes a host.
pub(super) fn delete(number: u32) -> Result<()> {
    for id in [group(number), id(number)] {
        match exchange(RTM_DELNEXTHOP, NLM_F_ACK, &message(0, &[(NHA_ID, &id.to_ne_bytes())])) {
            Err(error) if error.raw_os_error() != Some(Errno::ENOENT as i32) => {
                return Err(error).with_context(|| format!("delete nexthop {id}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A `struct nhmsg` with attributes.
fn message(family: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![family, 0, STATIC, 0, 0, 0, 0, 0];
    if attributes.is_empty() || attributes.len() == 1 {
        // What is looked for or deleted is nobody's.
        bytes[2] = 0;
    }
    for (kind, value) in attributes {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Sends a request to the calling thread's namespace and returns the messages of its reply, without their headers.
fn exchange(kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(3, 0))?;
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut request = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &(flags | NLM_F_REQUEST).to_ne_bytes()].concat();
    request.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    request.extend(body);
    socket.send(&request, 0)?;
    let mut replies = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&datagram) {
            match kind {
                NLMSG_DONE => return Ok(replies),
                NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code == 0 { Ok(replies) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => replies.push(body.to_vec()),
            }
        }
    }
}
