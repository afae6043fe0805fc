// SPDX-License-Identifier: Apache-2.0
//! The kernel's counters, read where they are files.

use std::fs;

use ciao_common::types::LinkName;

use crate::kernel::state::Traffic;

/// What a link of the host's namespace has carried; `None`: it is gone.
pub(super) fn traffic(link: &LinkName) -> Option<Traffic> {
    let count = |name: &str| number(&format!("/sys/class/net/{}/statistics/{name}", link.as_str()));
    Some(Traffic {
        received: (count("rx_bytes")?, count("rx_packets")?),
        sent: (count("tx_bytes")?, count("tx_packets")?),
    })
}

/// Connections that the host tracks, and the most that it tracks.
pub(super) fn tracked() -> Option<(u64, u64)> {
    let count = |name: &str| number(&format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
    Some((count("count")?, count("max")?))
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
