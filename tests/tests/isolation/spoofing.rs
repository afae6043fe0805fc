// SPDX-License-Identifier: Apache-2.0
//! Spoofed frames, and what else no container may send.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ciao_tests::frames::{
    Frame, Station, arp, behind_options, first_fragment6, fragments, icmp6, of_type, tagged, udp, udp6,
};
use etherparse::ArpOperation;

use crate::scene::{END, Scene, everybody, link_local};

/// A router that offers itself for half an hour (RFC 4861, 4.2).
pub(crate) fn router_advertisement(from: Station) -> Frame {
    let all = Station { mac: [0x33, 0x33, 0, 0, 0, 1], ..everybody() };
    icmp6(from, all, 134, [64, 0, 7, 8], &[0; 8])
}

/// "I am the solicited one, forget the other" (RFC 4861, 4.4).
pub(crate) fn neighbour_advertisement(from: Station, to: Station, target: Ipv6Addr) -> Frame {
    icmp6(from, to, 136, [0x60, 0, 0, 0], &[&target.octets()[..], &[2, 1], &from.mac].concat())
}

/// Frames with false claims: the attacker's own MAC address on the frame, except in the last ones.
pub(crate) fn spoofed_frames(scene: &Scene) -> Vec<(&'static str, Frame)> {
    let (me, victim, everybody) = (scene.from, scene.to, everybody());
    let my_own = link_local(me);
    // Others' addresses with the attacker's MAC address, and the other way round.
    let as_gateway = Station { mac: me.mac, ..scene.gateway };
    let as_neighbour = Station { mac: me.mac, ..scene.neighbour };
    let with_neighbours_mac = Station { mac: scene.neighbour.mac, ..me };
    let solicit = [&victim.v6.octets()[..], &[1, 1], &me.mac].concat();
    let redirect = [scene.neighbour.v6.octets(), scene.gateway.v6.octets()].concat();
    let stolen = udp(as_neighbour, victim, (7, 7), &[0; 24]);
    let [first, later] = fragments(&stolen);
    // Duplicate address detection (RFC 5227, RFC 4862) for the victim's address, which would deny the victim its use.
    let unnamed = Station { v4: Ipv4Addr::UNSPECIFIED, v6: Ipv6Addr::UNSPECIFIED, ..me };
    let asked = Station { mac: everybody.mac, ..victim };
    let claim = neighbour_advertisement(my_own, victim, scene.gateway.v6);
    vec![
        ("ARP: I have the gateway's address", arp(me.mac, ArpOperation::REPLY, as_gateway, everybody)),
        ("ARP: I have the neighbour's address", arp(me.mac, ArpOperation::REPLY, as_neighbour, victim)),
        ("ARP: the gateway asks", arp(me.mac, ArpOperation::REQUEST, as_gateway, victim)),
        ("ARP: somebody else has my address", arp(me.mac, ArpOperation::REPLY, with_neighbours_mac, everybody)),
        ("ARP: is the victim's address in use?", arp(me.mac, ArpOperation::REQUEST, unnamed, asked)),
        ("ND: is the victim's address in use?", icmp6(unnamed, asked, 135, [0; 4], &victim.v6.octets())),
        ("ND: I have the gateway's address", claim.clone()),
        ("ND: I have the neighbour's address", neighbour_advertisement(me, victim, scene.neighbour.v6)),
        ("ND: the gateway asks", icmp6(as_gateway, victim, 135, [0; 4], &solicit)),
        ("ND: behind options", behind_options(&claim)),
        ("ND: use that router", icmp6(link_local(as_gateway), victim, 137, [0; 4], &redirect)),
        ("ND: use me", icmp6(my_own, victim, 137, [0; 4], &redirect)),
        ("RA: I am a router", router_advertisement(my_own)),
        ("RA: with the router's address", router_advertisement(link_local(scene.gateway))),
        ("RA: behind options", behind_options(&router_advertisement(my_own))),
        ("RA: in fragments", first_fragment6(&router_advertisement(my_own))),
        ("DHCP: here is your address", udp(me, everybody, (67, 68), &[0; 240])),
        ("DHCP: from any other port", udp(me, everybody, (6767, 68), &[0; 240])),
        ("DHCPv6: from any other port", udp6(my_own, victim, (6767, 546), &[0; 8])),
        ("DHCPv6: here is your address", udp6(my_own, victim, (547, 546), &[0; 8])),
        ("IPv4: the neighbour's address", stolen),
        ("IPv4: the victim's own address", udp(Station { mac: me.mac, ..victim }, victim, (7, 7), b"")),
        ("IPv4: the neighbour's, the first fragment", first),
        ("IPv4: the neighbour's, the second fragment", later),
        ("IPv6: the neighbour's address", udp6(as_neighbour, victim, (7, 7), b"")),
        ("IPv6: the neighbour's link-local address", udp6(link_local(scene.neighbour), victim, (7, 7), b"")),
        ("VLAN: the neighbour's address", tagged(udp(as_neighbour, victim, (7, 7), b""), 0x8100)),
        ("VLAN: of a provider", tagged(udp(as_neighbour, victim, (7, 7), b""), 0x88a8)),
        ("VLAN: two tags", tagged(tagged(udp(as_neighbour, victim, (7, 7), b""), 0x8100), 0x88a8)),
        ("VLAN: my own address", tagged(udp(me, victim, (7, 7), b""), 0x8100)),
        ("VLAN: router", tagged(router_advertisement(my_own), 0x8100)),
        ("another protocol", of_type(udp(me, victim, (7, 7), b""), 0x88b5)),
        ("MAC: the neighbour's", udp(with_neighbours_mac, victim, (7, 7), b"")),
        ("MAC: the gateway's", udp(Station { mac: scene.gateway.mac, ..me }, victim, (7, 7), b"")),
        // Last: a bridge that believes it sends nothing to the victim any more, but what is for everybody.
        ("MAC: the victim's", udp(Station { mac: victim.mac, ..me }, everybody, (7, 7), b"")),
    ]
}

pub(crate) fn names(frames: &[(&'static str, Frame)]) -> BTreeSet<String> {
    frames.iter().map(|(name, _)| (*name).to_owned()).chain([END.to_owned()]).collect()
}
