// SPDX-License-Identifier: Apache-2.0
//! The ruleset of tunnels between hosts.

use std::net::IpAddr;

const RULESET: &str = include_str!("tunnel.nft");

/// Deletes it.
pub(crate) const DELETE_TUNNEL_RULES: &str = "table inet ciao_tunnel\ndelete table inet ciao_tunnel\n";

/// Tunnels at a UDP port, to which only other hosts send.
pub(crate) fn tunnel_rules(port: u16, hosts: &[IpAddr]) -> String {
    let elements = |v4: bool| {
        let of: Vec<_> = hosts.iter().filter(|host| host.is_ipv4() == v4).map(ToString::to_string).collect();
        if of.is_empty() { String::new() } else { format!("elements = {{ {} }};", of.join(", ")) }
    };
    let ruleset = RULESET.replace("#hosts4#", &elements(true)).replace("#hosts6#", &elements(false));
    ruleset.replace("#port#", &port.to_string())
}
