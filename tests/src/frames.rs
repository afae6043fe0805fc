// SPDX-License-Identifier: Apache-2.0
//! Ethernet frames as an attacker writes them, for the packet sockets of [`crate::world::Wire`]. They carry what their
//! arguments state, true or not; lengths and checksums are right, so that a receiver takes them for real.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Ethernet2Header, IpFragOffset, IpHeaders, IpNumber, Ipv4Header,
    Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, PacketBuilder, PacketBuilderStep,
};

/// Bytes on a wire.
pub type Frame = Vec<u8>;

/// The sender or receiver of a frame, true or claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// On the frame, and within ARP.
    pub mac: [u8; 6],
    /// Within IPv4 and ARP.
    pub v4: Ipv4Addr,
    /// Within IPv6.
    pub v6: Ipv6Addr,
}

/// An ARP request or reply, whose frame may come from another MAC address than it says within.
pub fn arp(frame_from: [u8; 6], operation: ArpOperation, from: Station, to: Station) -> Frame {
    let (sender, target) = (from.v4.octets(), to.v4.octets());
    let packet =
        ArpPacket::new(ArpHardwareId::ETHERNET, EtherType::IPV4, operation, &from.mac, &sender, &to.mac, &target);
    let packet = packet.expect("both addresses have their protocol's length");
    let mut frame = Frame::new();
    PacketBuilder::ethernet2(frame_from, to.mac).arp(packet).write(&mut frame).expect("a vector takes it");
    frame
}

/// A datagram over IPv4.
pub fn udp(from: Station, to: Station, ports: (u16, u16), payload: &[u8]) -> Frame {
    let ip = ethernet(from, to).ipv4(from.v4.octets(), to.v4.octets(), 64);
    let mut frame = Frame::new();
    ip.udp(ports.0, ports.1).write(&mut frame, payload).expect("a vector takes it");
    frame
}

/// A datagram over IPv6.
pub fn udp6(from: Station, to: Station, ports: (u16, u16), payload: &[u8]) -> Frame {
    let ip = ethernet(from, to).ipv6(from.v6.octets(), to.v6.octets(), 64);
    let mut frame = Frame::new();
    ip.udp(ports.0, ports.1).write(&mut frame, payload).expect("a vector takes it");
    frame
}

/// An ICMPv6 message, with the hop limit that neighbour discovery demands: type, the word after the checksum, the rest.
pub fn icmp6(from: Station, to: Station, kind: u8, word: [u8; 4], rest: &[u8]) -> Frame {
    let ip = ethernet(from, to).ipv6(from.v6.octets(), to.v6.octets(), 255);
    let mut frame = Frame::new();
    ip.icmpv6_raw(kind, 0, word).write(&mut frame, rest).expect("a vector takes it");
    frame
}

/// The same with a VLAN's tag, of the kind 0x8100 (802.1Q) or 0x88a8 (802.1ad).
pub fn tagged(mut frame: Frame, kind: u16) -> Frame {
    let [a, b] = kind.to_be_bytes();
    frame.splice(12..12, [a, b, 0, 7]);
    frame
}

/// The same with another EtherType.
pub fn of_type(mut frame: Frame, kind: u16) -> Frame {
    frame.splice(12..14, kind.to_be_bytes());
    frame
}

/// A datagram over IPv4 in two fragments.
pub fn fragments(datagram: &[u8]) -> [Frame; 2] {
    let (link, rest) = Ethernet2Header::from_slice(datagram).expect("the frame is one of udp's");
    let (mut ip, whole) = Ipv4Header::from_slice(rest).expect("the frame is one of udp's");
    let (first, second) = whole.split_at(16);
    let mut fragment = |part: &[u8], units: u16| {
        ip.dont_fragment = false;
        ip.more_fragments = units == 0;
        ip.fragment_offset = IpFragOffset::try_new(units).expect("a small number");
        let headers = IpHeaders::Ipv4(ip.clone(), Default::default());
        ip_frame(&link, headers, ip.protocol, part)
    };
    [fragment(first, 0), fragment(second, 2)]
}

/// An IPv6 packet behind a header of destination options, without meaning.
pub fn behind_options(packet: &[u8]) -> Frame {
    let (link, ip, upper) = parts6(packet);
    let chain = [&[ip.next_header.0, 0, 1, 4, 0, 0, 0, 0], upper].concat();
    ip_frame(&link, IpHeaders::Ipv6(ip, Ipv6Extensions::default()), IpNumber::IPV6_DESTINATION_OPTIONS, &chain)
}

/// The first fragment of an IPv6 packet, which has nothing but destination options and so does not show what it is the
/// beginning of (RFC 7113, 2.2).
pub fn first_fragment6(packet: &[u8]) -> Frame {
    let (link, ip, _) = parts6(packet);
    let options = [ip.next_header.0, 0, 1, 4, 0, 0, 0, 0];
    let fragment = Ipv6FragmentHeader {
        next_header: IpNumber::IPV6_DESTINATION_OPTIONS,
        fragment_offset: IpFragOffset::ZERO,
        more_fragments: true,
        identification: 7,
    };
    let extensions = Ipv6Extensions { fragment: Some(fragment), ..Default::default() };
    ip_frame(&link, IpHeaders::Ipv6(ip, extensions), IpNumber::IPV6_DESTINATION_OPTIONS, &options)
}

fn ethernet(from: Station, to: Station) -> PacketBuilderStep<Ethernet2Header> {
    PacketBuilder::ethernet2(from.mac, to.mac)
}

fn parts6(packet: &[u8]) -> (Ethernet2Header, Ipv6Header, &[u8]) {
    let (link, rest) = Ethernet2Header::from_slice(packet).expect("the frame is one of icmp6's");
    let (ip, upper) = Ipv6Header::from_slice(rest).expect("the frame is one of icmp6's");
    (link, ip, upper)
}

fn ip_frame(link: &Ethernet2Header, headers: IpHeaders, upper: IpNumber, payload: &[u8]) -> Frame {
    let mut frame = Frame::new();
    let builder = PacketBuilder::ethernet2(link.source, link.destination).ip(headers);
    builder.write(&mut frame, upper, payload).expect("a vector takes it");
    frame
}
