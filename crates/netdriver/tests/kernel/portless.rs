// SPDX-License-Identifier: Apache-2.0
//! Packets that a container makes itself, without the ports that translation and tracking look at.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use ciao_netdriver::Shares;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket};

use crate::apart::{run, soon, tests};
use crate::driver::Bench;
use crate::shares::{BOX2, lan, tracked, two_tenants};

/// Box2, in a tenant's network.
const OWN4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
/// For experiments (RFC 3692).
const EXPERIMENT: u8 = 253;
const TCP: u8 = 6;

/// Counts beyond the host by source: the container's own, and the host's.
const PROBE: &str = "table ip probe {
    counter own { }
    counter translated { }
    chain in {
        type filter hook prerouting priority raw;
        ip saddr 10.0.0.0/8 counter name own
        ip saddr 198.51.100.1 counter name translated
    }
}
";

fn counted(name: &str) -> u64 {
    let listed = run(&format!("ip netns exec lan nft list counter ip probe {name}"));
    listed.split_once("packets ").unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
}

/// Sends packets of a protocol from the container; the kernel completes the IPv4 header.
fn send4(protocol: u8, to: impl Iterator<Item = Ipv4Addr> + Send, payload: &[u8]) {
    BOX2.within(|| {
        let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
        for to in to {
            let header = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0][..], &OWN4.octets(), &to.octets()].concat();
            let at = SockaddrStorage::from(SocketAddr::from((to, 0)));
            let _ = sendto(raw.as_raw_fd(), &[&header, payload].concat(), &at, MsgFlags::empty());
        }
    });
}

fn send6(protocol: u8, to: impl Iterator<Item = Ipv6Addr> + Send) {
    BOX2.within(|| {
        let raw = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
        for to in to {
            let packet = [&[0x60, 0, 0, 0, 0, 0, protocol, 64][..], &OWN6.octets(), &to.octets()].concat();
            let at = SockaddrStorage::from(SocketAddr::from((to, 0)));
            let _ = sendto(raw.as_raw_fd(), &packet, &at, MsgFlags::empty());
        }
    });
}

/// A TCP header with these flags, and its checksum.
fn tcp(to: Ipv4Addr, flags: u8) -> Vec<u8> {
    let mut header = [0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0];
    let pseudo = [&OWN4.octets()[..], &to.octets(), &[0, TCP, 0, 20], &header].concat();
    let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    header[16..18].copy_from_slice(&(!u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()).to_be_bytes());
    header.to_vec()
}

tests! {
    fn packets_without_ports_are_in_a_tenant_s_share_of_flows(_kernel) {
        lan();
        run("ip route add 2001:db8:1::/48 via 2001:db8::2");
        let bench = Bench::with_shares(Shares { flows: 512, ..Shares::default() });
        two_tenants(&bench);
        let before = tracked();
        let numbers = || 0..4096_u16;
        send4(EXPERIMENT, numbers().map(|n| Ipv4Addr::from(0xcb01_0000 + u32::from(n))), &[]);
        let four = tracked() - before;
        for protocol in [EXPERIMENT, 59] {
            send6(protocol, numbers().map(|n| Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n)));
        }
        let six = tracked() - before - four;
        println!("entries of the host after 4,096 packets: IPv4 {four}, IPv6 {six}");
        assert!(four <= 8 && six <= 8, "{four} {six}");
    }

    fn packets_of_no_connection_leave_with_no_address_of_the_tenant_s(_kernel) {
        lan();
        std::fs::write("/run/netns/probe.nft", PROBE).unwrap();
        run("ip netns exec lan nft -f /run/netns/probe.nft");
        let bench = Bench::new();
        two_tenants(&bench);
        let lan = Ipv4Addr::new(198, 51, 100, 2);
        // RST, and SYN with FIN; an echo reply that nobody asked for.
        for flags in [0x04, 0x03] {
            send4(TCP, std::iter::repeat_n(lan, 4), &tcp(lan, flags));
        }
        send4(1, std::iter::repeat_n(lan, 4), &[0, 0, 0xff, 0xfe, 0, 1, 0, 0]);
        // A connection is translated.
        assert!(soon(|| {
            send4(TCP, std::iter::once(lan), &tcp(lan, 0x02));
            counted("translated") > 0
        }));
        assert_eq!(counted("own"), 0);
        let dropped = run("ip netns exec ciao-red nft list counter inet ciao no_connection");
        assert!(dropped.contains("packets 12 "), "{dropped}");
    }
}
