//! The ports of the host that are held for containers: each by a socket bound to it that nobody listens on.
//!
//! It keeps other programs from taking the port, and shows when one has it already.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use ciao_common::store::{Port, Protocol};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, getsockname, setsockopt, socket, sockopt,
};

/// The ports of the host that are held, and what holds each.
#[derive(Default)]
pub(crate) struct Held(Mutex<BTreeMap<Place, OwnedFd>>);

/// A port of the host.
type Place = (Protocol, IpAddr, u16);

impl Held {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a port; 0: any free one. Answers its number, or `None` if somebody has it.
    pub(crate) fn take(&self, protocol: Protocol, address: IpAddr, number: u16) -> Result<Option<u16>> {
        let what = || format!("hold port {number}/{protocol} at {address}");
        match bound(protocol, SocketAddr::new(address, number)) {
            Ok((held, number)) => {
                self.lock().insert((protocol, address, number), held);
                Ok(Some(number))
            }
            Err(Errno::EADDRINUSE) => Ok(None),
            Err(Errno::EADDRNOTAVAIL) => {
                bail!("{address} is no address of this host: publish the port on one that it has")
            }
            Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT | Errno::EAFNOSUPPORT) => {
                bail!("this kernel has no {protocol} for {address}: port {number} cannot be published")
            }
            Err(errno) => Err(io::Error::from(errno)).with_context(what),
        }
    }

    pub(crate) fn release(&self, port: &Port) {
        self.lock().remove(&(port.protocol, port.host_address, port.host_port));
    }
}

/// A socket bound to a port, and the port's number.
fn bound(protocol: Protocol, place: SocketAddr) -> nix::Result<(OwnedFd, u16)> {
    let family = if place.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => (SockType::Stream, SockProtocol::Sctp),
    };
    let held = socket(family, kind, SockFlag::SOCK_CLOEXEC, number)?;
    if place.is_ipv6() {
        setsockopt(&held, sockopt::Ipv6V6Only, &true)?;
    }
    bind(held.as_raw_fd(), &SockaddrStorage::from(place))?;
    let name: SockaddrStorage = getsockname(held.as_raw_fd())?;
    let v4 = name.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::port);
    let port = v4.or_else(|| name.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::port));
    Ok((held, port.unwrap_or(place.port())))
}

/// The program that has a port, if `/proc` shows it.
pub(crate) fn process_with(protocol: Protocol, number: u16) -> Option<String> {
    use procfs::net::{tcp, tcp6, udp, udp6};
    let inode = match protocol {
        Protocol::Tcp => {
            let entries = tcp().into_iter().chain(tcp6()).flatten();
            entries.filter(|entry| entry.local_address.port() == number).map(|entry| entry.inode).next()
        }
        Protocol::Udp => {
            let entries = udp().into_iter().chain(udp6()).flatten();
            entries.filter(|entry| entry.local_address.port() == number).map(|entry| entry.inode).next()
        }
        Protocol::Sctp => None,
    }?;
    let has_it = |process: &procfs::process::Process| {
        let mut files = process.fd().into_iter().flatten().flatten();
        files.any(|file| matches!(file.target, procfs::process::FDTarget::Socket(socket) if socket == inode))
    };
    let process = procfs::process::all_processes().ok()?.flatten().find(has_it)?;
    let name = process.stat().map(|stat| stat.comm).unwrap_or_default();
    Some(format!("process {} ({name})", process.pid))
}
