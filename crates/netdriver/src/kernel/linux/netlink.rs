// SPDX-License-Identifier: Apache-2.0
//! A blocking netlink socket: a request out, its replies back.
//!
//! The socket belongs to the network namespace of the thread that opens it. A kernel that does not answer is an error
//! after [`PATIENCE`]: no handler waits without end.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use super::datagram::ALIGNMENT;
use super::reply::{End, messages, read, refusal};

/// The kernel answers in microseconds, unless its RTNL lock is held (deleting a link takes some 20 ms of it) or
/// something else changes rules now.
const PATIENCE: Duration = Duration::from_secs(3);

/// The messages of one of netlink's families.
pub(super) trait Message: NetlinkSerializable + NetlinkDeserializable + Clone + Debug {
    const PROTOCOL: isize;
}

impl Message for RouteNetlinkMessage {
    const PROTOCOL: isize = NETLINK_ROUTE;
}

impl Message for NetfilterMessage {
    const PROTOCOL: isize = NETLINK_NETFILTER;
}

/// The socket.
pub(super) struct Netlink<M = RouteNetlinkMessage> {
    socket: Socket,
    sequence: u32,
    /// What was received last. The kernel makes no datagram larger than [`DATAGRAM`].
    buffer: Vec<u8>,
    /// A request was sent whose last reply was not read.
    is_waiting: bool,
    messages: PhantomData<M>,
}

/// NLMSG_GOODSIZE grows with the page size, and a dump's datagrams up to 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// How often a list that changes meanwhile is requested. One of a thousand links takes a few milliseconds.
const DUMPS: usize = 100;

/// The kernel's reply to a request.
pub(super) type Response<M = RouteNetlinkMessage> = std::result::Result<Vec<M>, Errno>;

impl<M: Message> Netlink<M> {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open() -> Result<Self> {
        let mut socket = Socket::new(M::PROTOCOL).context("open a netlink socket")?;
        socket.bind_auto().context("bind a netlink socket")?;
        let patience = TimeVal::new(PATIENCE.as_secs().try_into()?, 0);
        setsockopt(&socket, ReceiveTimeout, &patience).context("set a netlink socket's timeout")?;
        Ok(Self::resumed(socket, 0))
    }

    /// A socket that had sent `sequence` requests when it became idle.
    pub(super) fn resumed(socket: Socket, sequence: u32) -> Self {
        Self { socket, sequence, buffer: Vec::with_capacity(DATAGRAM), is_waiting: false, messages: PhantomData }
    }

    /// The socket, for [`Self::resumed`]; `None`: after an error requests and replies may be out of step.
    pub(super) fn into_idle(self) -> Option<(Socket, u32)> {
        (!self.is_waiting).then_some((self.socket, self.sequence))
    }

    /// Sends a request with `flags` besides `REQUEST` and `ACK`. The kernel's refusal is a value; an error is that
    /// request or reply could not be read or written.
    pub(super) fn request(&mut self, message: M, flags: u16) -> Result<Response<M>> {
        self.send([(message, NLM_F_ACK | flags)])?;
        let mut replies = Vec::new();
        Ok(self.receive(|reply| replies.push(reply))?.map(|_| replies))
    }

    /// Sends a request whose refusal is an error.
    pub(super) fn execute(&mut self, message: M, flags: u16) -> Result<()> {
        self.request(message, flags)?.map(drop).map_err(|errno| io::Error::from(errno).into())
    }

    /// As [`Self::execute`], but a refusal with `harmless`, which means that it is so already, is `false`.
    pub(super) fn execute_unless(&mut self, message: M, flags: u16, harmless: Errno) -> Result<bool> {
        match self.request(message, flags)? {
            Ok(_) => Ok(true),
            Err(errno) if errno == harmless => Ok(false),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }

    /// Requests everything of a kind, and keeps what `read` makes of it: a link's message, read whole, has some 20 kB.
    /// What changed while it was listed is listed again.
    pub(super) fn dump<T, I>(&mut self, message: M, read: impl Fn(&M) -> I) -> Result<Vec<T>>
    where
        I: IntoIterator<Item = T>,
    {
        self.dump_as(message, |reply: M| read(&reply))
    }

    /// As [`Self::dump`], of replies that have a type of their own.
    pub(super) fn dump_as<R, T, I>(&mut self, message: M, read: impl Fn(R) -> I) -> Result<Vec<T>>
    where
        R: NetlinkDeserializable,
        I: IntoIterator<Item = T>,
    {
        for _ in 0..DUMPS {
            self.send([(message.clone(), NLM_F_DUMP)])?;
            let mut found = Vec::new();
            let end = self.receive(|reply| found.extend(read(reply)))?.map_err(io::Error::from)?;
            if end == End::Whole {
                return Ok(found);
            }
        }
        bail!("it changed during each of {DUMPS} attempts to list it")
    }

    /// Sends requests in one datagram. The kernel carries out all of them, whatever becomes of those before; the first
    /// refusal is the error, unless it is `harmless`.
    pub(super) fn execute_all(&mut self, requests: Vec<(M, u16)>, harmless: Option<Errno>) -> Result<()> {
        let first = self.sequence + 1;
        self.send(requests.into_iter().map(|(message, flags)| (message, NLM_F_ACK | flags)))?;
        let mut refusal = None;
        for sequence in first..=self.sequence {
            self.sequence = sequence;
            if let Err(errno) = self.receive::<M>(drop)?
                && Some(errno) != harmless
            {
                refusal.get_or_insert(errno);
            }
        }
        refusal.map_or(Ok(()), |errno| Err(io::Error::from(errno).into()))
    }

    /// Sends requests that the kernel carries out all or none, and waits for the one acknowledgement, of the last
    /// request that asks for it, or for the first refusal: which request it is of, and why.
    pub(super) fn execute_batch(&mut self, requests: Vec<(M, u16)>) -> Result<std::result::Result<(), (usize, Errno)>> {
        let first = self.sequence + 1;
        self.send(requests)?;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0).context("receive from the kernel")?;
            for message in messages::<M>(&self.buffer) {
                let message = message?;
                let Some(number) = message.header.sequence_number.checked_sub(first) else { continue };
                match message.payload {
                    NetlinkPayload::Error(error) => {
                        self.is_waiting = false;
                        return Ok(refusal(error.code).map_err(|errno| (number as usize, errno)));
                    }
                    _ => bail!("read the kernel's reply: it is neither an acknowledgement nor an error"),
                }
            }
        }
    }

    /// Sends requests in one datagram.
    fn send(&mut self, requests: impl IntoIterator<Item = (M, u16)>) -> Result<()> {
        let mut bytes = Vec::new();
        self.is_waiting = true;
        for (message, flags) in requests {
            self.sequence += 1;
            let mut header = NetlinkHeader::default();
            header.flags = NLM_F_REQUEST | flags;
            header.sequence_number = self.sequence;
            let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
            request.finalize();
            let start = bytes.len();
            bytes.resize(start + request.buffer_len().next_multiple_of(ALIGNMENT), 0);
            request.serialize(&mut bytes[start..]);
        }
        self.socket.send(&bytes, 0).context("send to the kernel")?;
        Ok(())
    }

    /// Receives replies to the last request until the one that ends it.
    fn receive<R: NetlinkDeserializable>(
        &mut self,
        mut each: impl FnMut(R),
    ) -> Result<std::result::Result<End, Errno>> {
        let mut end = End::Whole;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0).context("receive from the kernel")?;
            if let Some(done) = read(&self.buffer, self.sequence, &mut each, &mut end)? {
                self.is_waiting = false;
                return Ok(done.map(|()| end));
            }
        }
    }
}
