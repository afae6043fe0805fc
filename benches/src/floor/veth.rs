// SPDX-License-Identifier: Apache-2.0
//! Raw links: veth pairs between the host's namespace and a bridge in another one, as ciao-net makes them, with one
//! netlink message each on a socket that is open already.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::sched::{CloneFlags, unshare};

use crate::host;
use crate::numbers::Latencies;

const BRIDGE: &str = "floor";

/// A namespace with a bridge, and a socket in it.
pub struct Veths {
    socket: Socket,
    bridge: u32,
    host: File,
}

impl Veths {
    /// A new namespace with a bridge beside the host's namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(host: File) -> Result<Self> {
        let open = || {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            let mut link = named(BRIDGE);
            up(&mut link);
            link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
            tell(&socket, RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)?;
            Ok(socket)
        };
        let socket = host::inside(&host.try_clone()?, open).context("make a bridge")?;
        let bridge = index_of(&socket, BRIDGE)?;
        Ok(Self { socket, bridge, host })
    }

    /// Makes some pairs, one after the other, and deletes them, one after the other.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(&self, pairs: usize) -> Result<(Latencies, Latencies)> {
        let (mut made, mut deleted) = (Latencies::default(), Latencies::default());
        for number in 0..pairs {
            let begun = Instant::now();
            self.create(number)?;
            made.add(begun.elapsed());
        }
        for number in 0..pairs {
            let begun = Instant::now();
            self.delete(number)?;
            deleted.add(begun.elapsed());
        }
        Ok((made, deleted))
    }

    /// Makes a pair and deletes it, for some time; returns how many a second.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rate(&self, time: Duration) -> Result<f64> {
        let start = Instant::now();
        let mut pairs = 0;
        while start.elapsed() < time {
            self.create(pairs)?;
            self.delete(pairs)?;
            pairs += 1;
        }
        Ok(pairs as f64 / start.elapsed().as_secs_f64())
    }

    fn create(&self, number: usize) -> Result<()> {
        tell(&self.socket, pair(number, self.bridge, self.host.as_fd()), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn delete(&self, number: usize) -> Result<()> {
        tell(&self.socket, RouteNetlinkMessage::DelLink(named(&format!("hf{number}"))), 0)
    }
}

fn pair(number: usize, bridge: u32, host: BorrowedFd<'_>) -> RouteNetlinkMessage {
    let mut peer = named(&format!("cf{number}"));
    let low = u16::try_from(number % 65_536).unwrap_or(0).to_be_bytes();
    peer.attributes.push(LinkAttribute::Address(vec![2, 0xf1, 0, 0, low[0], low[1]]));
    peer.attributes.push(LinkAttribute::NetNsFd(host.as_raw_fd()));
    let mut link = named(&format!("hf{number}"));
    up(&mut link);
    link.attributes.push(LinkAttribute::Controller(bridge));
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    RouteNetlinkMessage::NewLink(link)
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn up(link: &mut LinkMessage) {
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
}

fn index_of(socket: &Socket, name: &str) -> Result<u32> {
    match ask(socket, RouteNetlinkMessage::GetLink(named(name)), 0)? {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link.header.index),
        other => bail!("look up {name}: {other:?}"),
    }
}

fn tell(socket: &Socket, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
    match ask(socket, message, flags | NLM_F_ACK)? {
        NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
        NetlinkPayload::Error(error) => Err(error.to_io()).context("ask the kernel"),
        other => bail!("the kernel answered {other:?}"),
    }
}

/// Sends a message and returns the first reply.
fn ask(socket: &Socket, message: RouteNetlinkMessage, flags: u16) -> Result<NetlinkPayload<RouteNetlinkMessage>> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (reply, _) = socket.recv_from_full()?;
    Ok(NetlinkMessage::deserialize(&reply).context("read the kernel's reply")?.payload)
}
