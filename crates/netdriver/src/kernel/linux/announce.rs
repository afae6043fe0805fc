// SPDX-License-Identifier: Apache-2.0
//! Announcements of an address's MAC address: ARP for IPv4 (RFC 5227, 3), an unsolicited neighbour advertisement for
//! IPv6 (RFC 4861, 7.2.6). Neighbours that remember another MAC address for it take the new one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use ciao_common::types::{LinkName, MacAddr};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};

const BROADCAST: [u8; 6] = [0xff; 6];
/// All nodes on the link (RFC 4291, 2.7.1), as a MAC address (RFC 2464, 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;

/// Sends announcements to every port of a bridge in the calling thread's namespace. No such bridge: nothing to do.
pub(super) fn send(bridge: &LinkName, entries: &[(IpAddr, MacAddr)]) -> Result<()> {
    let mut links = getifaddrs().context("list links")?.filter(|entry| entry.interface_name == bridge.as_str());
    let Some(link) = links.find_map(|entry| entry.address?.as_link_addr().copied()) else { return Ok(()) };
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).context("open a packet socket")?;
    for (address, mac) in entries {
        let frame = match address {
            IpAddr::V4(v4) => arp(*v4, *mac),
            IpAddr::V6(v6) => advertisement(*v6, *mac),
        };
        sendto(socket.as_raw_fd(), &frame, &link, MsgFlags::empty())
            .with_context(|| format!("announce {address} on bridge {bridge}"))?;
    }
    Ok(())
}

/// An ARP request for one's own address.
fn arp(address: Ipv4Addr, mac: MacAddr) -> Vec<u8> {
    let (mac, ip) = (mac.octets(), address.octets());
    // Ethernet, IPv4, lengths of both, request.
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&BROADCAST[..], &mac, &[0x08, 0x06], &head, &mac, &ip, &[0; 6], &ip].concat()
}

/// A neighbour advertisement that overrides what is known, with the target's MAC address as an option.
fn advertisement(address: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    let (mac, ip) = (mac.octets(), address.octets());
    let override_flag = [0x20, 0, 0, 0];
    let body = [&override_flag[..], &ip, &[2, 1], &mac].concat();
    let length = u16::try_from(body.len() + 4).unwrap_or(u16::MAX);
    let pseudo = [&ip[..], &ALL_NODES.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[&pseudo[..], &[136, 0, 0, 0], &body].concat());
    let header = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[ICMPV6, 255], &ip, &ALL_NODES.octets()].concat();
    [&ALL_NODES_MAC[..], &mac, &[0x86, 0xdd], &header, &[136, 0], &sum.to_be_bytes(), &body].concat()
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
