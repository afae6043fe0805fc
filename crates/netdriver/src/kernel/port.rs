// SPDX-License-Identifier: Apache-2.0
//! Ports of the host that are held for containers: each by a socket bound to it that does not listen.
//!
//! It keeps other programs from taking the port, and shows when one has it already.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Error, Result, bail};
use ciao_common::store::Protocol;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind, getsockname,
    setsockopt, socket, sockopt,
};

/// A port of the host, until it is dropped.
#[derive(Debug)]
pub struct HeldPort {
    _socket: OwnedFd,
    /// Its number.
    pub number: u16,
}

/// Ports of the host.
pub trait Ports {
    /// Holds a port; 0: any free one. `None`: it is in use.
    fn hold_port(&self, protocol: Protocol, address: IpAddr, number: u16) -> Result<Option<HeldPort>> {
        match hold(protocol, SocketAddr::new(address, number)) {
            Ok(port) => Ok(Some(port)),
            Err(Errno::EADDRINUSE) => Ok(None),
            Err(Errno::EADDRNOTAVAIL) => {
                bail!("{address} is not an address of this host: publish the port on one of its addresses")
            }
            Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT | Errno::EAFNOSUPPORT) => {
                bail!("this kernel does not support {protocol} at {address}: port {number} cannot be published")
            }
            Err(Errno::EMFILE | Errno::ENFILE) => bail!(
                "ciao-net cannot open a file to reserve port {number}/{protocol}, one per port and family: raise \
                 LimitNOFILE of ciao-net.service, or publish fewer ports"
            ),
            Err(errno) => Err(Error::new(errno).context(format!("hold port {number}/{protocol} at {address}"))),
        }
    }
}

fn hold(protocol: Protocol, address: SocketAddr) -> nix::Result<HeldPort> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => (SockType::Stream, SockProtocol::Sctp),
    };
    let held = socket(family, kind, SockFlag::SOCK_CLOEXEC, number)?;
    if address.is_ipv6() {
        setsockopt(&held, sockopt::Ipv6V6Only, &true)?;
    }
    // While it is set, a port is taken over whose last connections are in TIME_WAIT. Left set, it would let another
    // program take the port from us. For UDP it means another thing.
    let over_time_wait = protocol == Protocol::Tcp;
    if over_time_wait {
        setsockopt(&held, sockopt::ReuseAddr, &true)?;
    }
    bind(held.as_raw_fd(), &SockaddrStorage::from(address))?;
    if over_time_wait {
        setsockopt(&held, sockopt::ReuseAddr, &false)?;
    }
    let name: SockaddrStorage = getsockname(held.as_raw_fd())?;
    let v4 = name.as_sockaddr_in().map(SockaddrIn::port);
    let port = v4.or_else(|| name.as_sockaddr_in6().map(SockaddrIn6::port));
    Ok(HeldPort { _socket: held, number: port.unwrap_or(address.port()) })
}
