// SPDX-License-Identifier: Apache-2.0
//! Frames that tests forge, and counters of those that pass.

use std::path::Path;

use crate::apart::run;

/// Counts what passes between the hosts: all frames of tunnels, and those with ARP or to all inside.
const COUNT: &str = "table bridge count {
    counter n_all { }
    counter n_arp { }
    counter n_broadcast { }
    chain forward {
        type filter hook forward priority 0;
        udp dport 14789 counter name n_all
        udp dport 14789 @th,224,16 0x0806 counter name n_arp
        udp dport 14789 @th,128,48 0xffffffffffff counter name n_broadcast
    }
}
";

pub(crate) fn count() {
    std::fs::write("/run/netns/count.nft", COUNT).unwrap();
    run("nft -f /run/netns/count.nft");
}

pub(crate) fn counted(name: &str) -> u64 {
    packets(&run(&format!("nft list counter bridge count n_{name}")))
}

/// Of a counter, as nft lists it.
pub(crate) fn packets(listed: &str) -> u64 {
    let (_, number) = listed.split_once("packets ").unwrap();
    number.split_whitespace().next().unwrap().parse().unwrap()
}

/// Counts in a container what is sent to its UDP port 9.
pub(crate) const BOX: &str = "table inet seen {
    counter received { }
    chain input {
        type filter hook input priority 0;
        udp dport 9 counter name received
    }
}
";

/// Sends a VXLAN datagram in red's VNI to a host, whose address is the script's argument, with this frame inside, or as
/// much of it as is given.
pub(crate) fn sending(folder: &Path, name: &str, frame: &[u8]) -> String {
    let (path, bytes) = (folder.join(name).with_extension("sh"), folder.join(name));
    std::fs::write(&bytes, [&[8, 0, 0, 0, 0, 0, 0x65, 0], frame].concat()).unwrap();
    std::fs::write(&path, format!("cat {} > /dev/udp/$1/14789\n", bytes.display())).unwrap();
    format!("bash {}", path.display())
}

/// The MAC address of red's container on host `n`.
pub(crate) fn red(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0xa, n]
}

/// A datagram of UDP to port 9 of red's container on host 1, from such addresses.
pub(crate) fn datagram_from(mac: [u8; 6], source: [u8; 4]) -> Vec<u8> {
    let header = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    let mut header = [&header[..], &source, &[10, 1, 0, 11]].concat();
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&red(1)[..], &mac, &[8, 0], &header, &[0, 9, 0, 9, 0, 8, 0, 0]].concat()
}
