// SPDX-License-Identifier: Apache-2.0
//! Echo requests of a given size, not fragmented: whether the path to another host carries packets of that size.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{IpMtu, Ipv6DontFrag, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, getsockopt, recv, send,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(400);
/// Of an echo request.
const HEADER: usize = 8;

/// Whether an echo request of so many bytes, with its IP header, is answered, and nobody fragments it. The kernel
/// itself would, where a router has told it of a smaller MTU.
pub(super) fn echo(from: IpAddr, to: IpAddr, bytes: u32) -> Result<bool> {
    let v4 = to.is_ipv4();
    let (family, protocol, ip) = if v4 {
        (AddressFamily::Inet, SockProtocol::Icmp, 20)
    } else {
        (AddressFamily::Inet6, SockProtocol::IcmpV6, 40)
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).context("open an ICMP socket")?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(50)).context("set a socket's timeout")?;
    let fd = socket.as_raw_fd();
    let end = |address| SockaddrStorage::from(SocketAddr::new(address, 0));
    bind(fd, &end(from)).with_context(|| format!("send from {from}"))?;
    connect(fd, &end(to)).with_context(|| format!("send to {to}"))?;
    if v4 {
        let path = getsockopt(&socket, IpMtu).context("read the path's MTU")?;
        if u32::try_from(path).is_ok_and(|path| bytes > path) {
            return Ok(false);
        }
    } else {
        setsockopt(&socket, Ipv6DontFrag, &true).context("forbid fragmentation")?;
    }
    let (request, reply) = if v4 { (8, 0) } else { (128, 129) };
    let [.., a, b] = std::process::id().to_be_bytes();
    let [.., c, d] = bytes.to_be_bytes();
    let size = usize::try_from(bytes)?.saturating_sub(ip + HEADER);
    let mut packet = [&[request, 0, 0, 0, a, b, c, d][..], &vec![0; size]].concat();
    if v4 {
        // The kernel computes ICMPv6's. The rest is zero.
        let sum = [[request, 0], [a, b], [c, d]].iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or_default();
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    match send(fd, &packet, MsgFlags::empty()) {
        Ok(_) => {}
        Err(Errno::EMSGSIZE) => return Ok(false),
        Err(errno) => return Err(errno).with_context(|| format!("send to {to}")),
    }
    let (since, mut buffer) = (Instant::now(), vec![0; 1 << 16]);
    loop {
        // At least once: a busy machine may have let this process wait for longer.
        let received = recv(fd, &mut buffer, MsgFlags::empty());
        let header = if v4 { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
        let answer = buffer.get(header..received.unwrap_or_default()).unwrap_or_default();
        if answer.len() == packet.len() && answer[0] == reply && answer[4..8] == [a, b, c, d] {
            return Ok(true);
        }
        if since.elapsed() >= PATIENCE {
            return Ok(false);
        }
    }
}
