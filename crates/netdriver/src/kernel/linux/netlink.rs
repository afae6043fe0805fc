// SPDX-License-Identifier: Apache-2.0
//! A blocking rtnetlink socket: a request out, its replies back.
//!
//! The socket belongs to the network namespace of the thread that opens it. A kernel that does not answer is an error
//! after [`PATIENCE`]: no handler waits without end.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ciao_common::types::LinkName;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use super::message::{self, Link};

/// The kernel answers in microseconds, unless its RTNL lock is held: deleting a link takes some 20 ms of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// The socket.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    /// What was received last. The kernel makes no datagram larger than [`DATAGRAM`].
    buffer: Vec<u8>,
}

/// NLMSG_GOODSIZE grows with the page size, and a dump's datagrams up to 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// How often a list that changes meanwhile is requested. One of a thousand links takes a few milliseconds.
const DUMPS: usize = 20;

/// How a reply ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// What was listed changed meanwhile: something may be listed twice, or not at all.
    Interrupted,
}

/// The kernel's reply to a request.
pub(super) type Response = std::result::Result<Vec<RouteNetlinkMessage>, Errno>;

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("open a netlink socket")?;
        socket.bind_auto().context("bind a netlink socket")?;
        let patience = TimeVal::new(PATIENCE.as_secs().try_into()?, 0);
        setsockopt(&socket, ReceiveTimeout, &patience).context("set a netlink socket's timeout")?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Sends a request with `flags` besides `REQUEST` and `ACK`. The kernel's refusal is a value; an error is that
    /// request or reply could not be read or written.
    pub(super) fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Response> {
        self.send(message, NLM_F_ACK | flags)?;
        let mut replies = Vec::new();
        Ok(self.receive(|reply| replies.push(reply))?.map(|_| replies))
    }

    /// Sends a request whose refusal is an error.
    pub(super) fn execute(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        self.request(message, flags)?.map(drop).map_err(|errno| io::Error::from(errno).into())
    }

    /// As [`Self::execute`], but a refusal with `harmless`, which means that it is so already, is `false`.
    pub(super) fn execute_unless(&mut self, message: RouteNetlinkMessage, flags: u16, harmless: Errno) -> Result<bool> {
        match self.request(message, flags)? {
            Ok(_) => Ok(true),
            Err(errno) if errno == harmless => Ok(false),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }

    /// A link of the socket's namespace.
    pub(super) fn find(&mut self, name: &LinkName) -> Result<Option<Link>> {
        match self.request(message::get(name), 0)? {
            Ok(replies) => Ok(replies.iter().find_map(message::read)),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(io::Error::from(errno)).with_context(|| format!("look up link {name}")),
        }
    }

    /// A link that must exist.
    pub(super) fn required(&mut self, name: &LinkName) -> Result<Link> {
        self.find(name)?.with_context(|| format!("link {name} does not exist"))
    }

    /// Requests everything of a kind, and keeps what `read` makes of it: a link's message, read whole, has some 20 kB. What
    /// changed while it was listed is listed again.
    pub(super) fn dump<T>(
        &mut self,
        message: RouteNetlinkMessage,
        read: impl Fn(&RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMPS {
            self.send(message.clone(), NLM_F_DUMP)?;
            let mut found = Vec::new();
            let end = self.receive(|reply| found.extend(read(&reply)))?.map_err(io::Error::from)?;
            if end == End::Whole {
                return Ok(found);
            }
        }
        bail!("it changed each of {DUMPS} times while it was listed")
    }

    /// Sends requests in one datagram. The kernel carries out all of them, whatever becomes of those before; the first
    /// refusal is the error.
    pub(super) fn execute_all(&mut self, requests: Vec<(RouteNetlinkMessage, u16)>) -> Result<()> {
        let mut bytes = Vec::new();
        let first = self.sequence + 1;
        for (message, flags) in requests {
            bytes.extend(self.encode(message, NLM_F_ACK | flags));
        }
        self.socket.send(&bytes, 0).context("send to the kernel")?;
        let mut refusal = None;
        for sequence in first..=self.sequence {
            self.sequence = sequence;
            if let Err(errno) = self.receive(drop)? {
                refusal.get_or_insert(errno);
            }
        }
        refusal.map_or(Ok(()), |errno| Err(io::Error::from(errno).into()))
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        let bytes = self.encode(message, flags);
        self.socket.send(&bytes, 0).context("send to the kernel")?;
        Ok(())
    }

    /// The bytes of the next request.
    fn encode(&mut self, message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        bytes
    }

    /// Receives replies until the last one.
    fn receive(&mut self, mut each: impl FnMut(RouteNetlinkMessage)) -> Result<std::result::Result<End, Errno>> {
        let mut end = End::Whole;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0).context("receive from the kernel")?;
            if let Some(done) = read(&self.buffer, self.sequence, &mut each, &mut end)? {
                return Ok(done.map(|()| end));
            }
        }
    }
}

/// Reads the messages of a datagram that belong to the request of that number. Returns the request's outcome if one of
/// them ends it.
fn read(
    datagram: &[u8],
    sequence: u32,
    each: &mut impl FnMut(RouteNetlinkMessage),
    end: &mut End,
) -> Result<Option<std::result::Result<(), Errno>>> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).context("read the kernel's reply")?;
        // Each message is padded to four bytes.
        let length = (message.header.length as usize).next_multiple_of(4).min(rest.len());
        if length == 0 {
            bail!("read the kernel's reply: a message without length");
        }
        rest = &rest[length..];
        // What came too late for an earlier request is passed over.
        if message.header.sequence_number != sequence {
            continue;
        }
        if message.header.flags & NLM_F_DUMP_INTR != 0 {
            *end = End::Interrupted;
        }
        match message.payload {
            NetlinkPayload::InnerMessage(reply) => each(reply),
            NetlinkPayload::Error(error) => {
                return Ok(Some(error.code.map_or(Ok(()), |code| Err(Errno::from_raw(-code.get())))));
            }
            NetlinkPayload::Done(_) => return Ok(Some(Ok(()))),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DoneMessage;

    use super::*;

    /// The end of a list.
    fn done(sequence: u32, flags: u16) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (flags, sequence);
        let payload = NetlinkPayload::<RouteNetlinkMessage>::Done(DoneMessage::default());
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_seen() {
        for (flags, expected) in [(0, End::Whole), (NLM_F_DUMP_INTR, End::Interrupted)] {
            let mut end = End::Whole;
            assert_eq!(read(&done(7, flags), 7, &mut |_| {}, &mut end).unwrap(), Some(Ok(())));
            assert!(end == expected);
            assert_eq!(read(&done(6, flags), 7, &mut |_| {}, &mut end).unwrap(), None, "an earlier request's");
        }
    }
}
