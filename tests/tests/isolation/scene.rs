// SPDX-License-Identifier: Apache-2.0
//! What the attacks share: an attacker, a victim, and who is who on a wire.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ciao_tests::frames::{Frame, Station, udp};
use ciao_tests::lab::Host;
use ciao_tests::world::{Place, network, serve, soon};

pub(crate) const SUBNETS: &str = "--ipv6 --subnet 10.5.0.0/24 --subnet fd00:5::/64";

/// The frame that the attacker may send, after all others.
pub(crate) const END: &str = "the end";

pub(crate) const NOBODY: [u8; 6] = [0; 6];

/// A container of the attacker and one of its victim, on one network.
pub(crate) struct Scene {
    pub(crate) host: Host,
    pub(crate) mallory: Place,
    pub(crate) victim: Place,
    pub(crate) from: Station,
    pub(crate) to: Station,
    pub(crate) gateway: Station,
    pub(crate) neighbour: Station,
}

impl Scene {
    pub(crate) fn open(name: &str, options: &str) -> Self {
        let host = Host::builder().name(name).start().unwrap();
        network(&host, "app", "red", &format!("{SUBNETS} {options}")).unwrap();
        let victim = serve(&host, "victim", "--network app --ip 10.5.0.2 --ip6 fd00:5::2").unwrap();
        let mallory = serve(&host, "mallory", "--network app --ip 10.5.0.66 --ip6 fd00:5::66").unwrap();
        let bridge = host.sh("sqlite3 /var/lib/ciao/ciao.db 'SELECT bridge FROM network'").unwrap();
        let bridge = host.sh(&format!("ip netns exec ciao-red cat /sys/class/net/{bridge}/address")).unwrap();
        let (from, to) = (station(mac_of(&host, "mallory"), 66), station(mac_of(&host, "victim"), 2));
        let (gateway, neighbour) = (station(octets(&bridge), 1), station([2, 0, 10, 5, 0, 3], 3));
        Self { host, mallory, victim, from, to, gateway, neighbour }
    }

    /// Sends the frames from the attacker's container, then one that it may send; returns which of them the victim
    /// receives.
    pub(crate) fn attack(&self, frames: Vec<(&'static str, Frame)>) -> BTreeSet<String> {
        self.count(frames, 1).into_keys().collect()
    }

    /// As [`Self::attack`], each frame so many times; returns how many of each the victim receives.
    pub(crate) fn count(&self, frames: Vec<(&'static str, Frame)>, times: usize) -> BTreeMap<String, usize> {
        let (wire, capture) = (self.mallory.wire("eth0").unwrap(), self.victim.wire("eth0").unwrap());
        wire.send_named(frames.iter().flat_map(|frame| vec![frame.clone(); times])).unwrap();
        wire.send_named([(END, udp(self.from, everybody(), (7, 7), b""))]).unwrap();
        capture.count(END).unwrap()
    }
}

pub(crate) fn station(mac: [u8; 6], last: u8) -> Station {
    let v6 = format!("fd00:5::{last}").parse().unwrap();
    Station { mac, v4: [10, 5, 0, last].into(), v6 }
}

pub(crate) fn everybody() -> Station {
    Station { mac: [0xff; 6], v4: [255; 4].into(), v6: "ff02::1".parse().unwrap() }
}

pub(crate) fn octets(mac: &str) -> [u8; 6] {
    let octets: Vec<u8> = mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    octets.try_into().unwrap()
}

pub(crate) fn mac_of(host: &Host, container: &str) -> [u8; 6] {
    mac_of_link(host, container, "eth0")
}

pub(crate) fn mac_of_link(host: &Host, container: &str, link: &str) -> [u8; 6] {
    octets(&host.docker(&["exec", container, "cat", &format!("/sys/class/net/{link}/address")]).unwrap())
}

/// The address that a station has without being given one (RFC 4291, appendix A).
pub(crate) fn link_local(station: Station) -> Station {
    let [a, b, c, d, e, f] = station.mac;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Station { v6: Ipv6Addr::from((0xfe80_u128 << 112) | u128::from(id)), ..station }
}

pub(crate) fn only_the_end() -> BTreeSet<String> {
    BTreeSet::from([END.to_owned()])
}

/// A host with an internet, and one tenant's container on it.
pub(crate) fn host_with_container(name: &str) -> (Host, Place, Place) {
    let host = Host::builder().name(name).start().unwrap();
    let internet = Place::internet(&host).unwrap();
    network(&host, "app", "red", SUBNETS).unwrap();
    let mallory = serve(&host, "mallory", "--network app --ip 10.5.0.66 --ip6 fd00:5::66").unwrap();
    assert!(soon(|| mallory.fetch("[2001:db8::2]:80").is_some() && mallory.fetch("203.0.113.2:80").is_some()));
    (host, internet, mallory)
}

/// What a tenant's uplink is called on the host.
pub(crate) fn uplink(host: &Host, tenant: &str) -> String {
    let of = format!("SELECT host_link FROM uplink_record WHERE namespace = 'ciao-{tenant}'");
    host.sh(&format!("sqlite3 /var/lib/ciao/ciao.db \"{of}\"")).unwrap()
}

/// A line of the table of attacks: how many of the packets that were sent came to their target, and how many where
/// nothing stopped them.
pub(crate) fn show(attack: &str, (sent, arrived, open): (usize, usize, usize)) {
    println!("{attack:<58} {sent:>4} {arrived:>8} {open:>6}");
}

pub(crate) fn show_head(target: &str, open: &str) {
    println!("\n{target:<58} sent arrived {open}");
}
