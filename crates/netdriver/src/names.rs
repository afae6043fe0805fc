// SPDX-License-Identifier: Apache-2.0
//! What ciao-net calls the things it makes, so that an administrator sees whose they are, and `reconcile` too.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use ciao_common::types::{LinkName, MacAddr, NetworkId, Subnet, TenantId, VnicId};

/// How the names of namespaces begin: a tenant's, and that of a network without tenant. No tenant's name begins with
/// a dot, so the two never meet.
pub const NAMESPACE_PREFIXES: [&str; 2] = ["ciao-", "ciao."];
/// How the names of containers' ends begin.
pub const CONTAINER_LINK: &str = "cv";
/// How the names of the ends on bridges begin.
pub const HOST_LINK: &str = "hv";

/// How the names of the hosts' ends of uplinks begin; the rulesets know it too.
pub const UPLINK: &str = "cu";

/// How the names of tunnels begin.
pub const TUNNEL: &str = "vx";

/// The end of an uplink in a namespace, the same in every one.
pub const INNER_LINK: &str = "up0";

/// A tenant's network namespace.
pub fn tenant_namespace(tenant: &TenantId) -> String {
    format!("{}{tenant}", NAMESPACE_PREFIXES[0])
}

/// The name of the tenant whose namespace this is; `None`: a network's without tenant.
pub fn tenant_of(namespace: &str) -> Option<&str> {
    namespace.strip_prefix(NAMESPACE_PREFIXES[0])
}

/// The network namespace of a network without tenant.
pub fn network_namespace(network: &NetworkId) -> String {
    format!("{}{}", NAMESPACE_PREFIXES[1], network.short())
}

/// A VNIC's two links, the container's first.
pub fn links(vnic: &VnicId) -> Result<(LinkName, LinkName)> {
    Ok((format!("{CONTAINER_LINK}{vnic}").parse()?, format!("{HOST_LINK}{vnic}").parse()?))
}

/// A network's tunnel.
pub fn tunnel_link(network: &NetworkId) -> Result<LinkName> {
    let [_, a, b, c, d, e] = MacAddr::hashed(network.as_str().as_bytes()).octets();
    format!("{TUNNEL}{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}").parse()
}

/// The MAC address of a host's tunnels, by its address to other hosts. VXLAN drops what has the receiving link's own
/// (as a loop), so it is not the gateway's.
pub fn tunnel_mac(host: IpAddr) -> MacAddr {
    MacAddr::hashed(format!("tunnel {host}").as_bytes())
}

/// Whether a link has the form of a tunnel's.
pub fn is_tunnel(link: &LinkName) -> bool {
    has_form(link, &[TUNNEL])
}

/// Whether a link has the form of a VNIC's.
pub fn is_vnic_link(link: &LinkName) -> bool {
    has_form(link, &[CONTAINER_LINK, HOST_LINK])
}

/// Whether a link has the form of a VNIC's end on its bridge.
pub fn is_host_link(link: &LinkName) -> bool {
    has_form(link, &[HOST_LINK])
}

/// The container's end of a VNIC's pair whose other end is `host_link`.
pub fn container_end(host_link: &LinkName) -> Option<LinkName> {
    format!("{CONTAINER_LINK}{}", host_link.as_str().strip_prefix(HOST_LINK)?).parse().ok()
}

/// Whether a link is the end on a bridge of a VNIC whose other end is not among the links of the host's namespace.
pub fn is_in_container(link: &LinkName, of_host: &BTreeSet<LinkName>) -> bool {
    is_host_link(link) && container_end(link).is_some_and(|end| !of_host.contains(&end))
}

/// Whether a link in the host's namespace has the form of one of ours.
pub fn is_ours(link: &LinkName) -> bool {
    has_form(link, &[CONTAINER_LINK, HOST_LINK, UPLINK])
}

/// Whether a user may give the name to a bridge.
///
/// # Errors
/// A reserved name, or one with a character that has a meaning in rules.
pub fn check_bridge(bridge: &LinkName) -> Result<()> {
    let is_plain = bridge.is_plain() && bridge.as_str().as_bytes()[0] != b'-';
    ensure!(
        is_plain,
        "bridge {:?} may contain only letters, digits, '_', '.' and '-', and may not begin with '-'",
        bridge.as_str()
    );
    let is_taken =
        matches!(bridge.as_str(), "lo" | "all" | "default" | INNER_LINK) || is_ours(bridge) || is_tunnel(bridge);
    ensure!(!is_taken, "bridge {bridge} has a reserved name: give another one");
    Ok(())
}

fn has_form(link: &LinkName, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| {
        let id = link.as_str().strip_prefix(prefix);
        id.is_some_and(|id| id.len() == 10 && id.bytes().all(|b| b.is_ascii_hexdigit()))
    })
}

/// The bridge of a Docker network that names none.
pub fn network_bridge(network: &NetworkId) -> Result<LinkName> {
    format!("br-{}", network.short()).parse()
}

/// The bridge of a launcher's subnet that names none: the same for every VNIC on it.
pub fn subnet_bridge(tenant: &TenantId, subnet: Subnet) -> Result<LinkName> {
    let [_, a, b, c, d, _] = MacAddr::hashed(format!("{tenant} {subnet}").as_bytes()).octets();
    format!("br-{a:02x}{b:02x}{c:02x}{d:02x}").parse()
}

/// A new bridge's MAC address: it does not change with its ports.
pub fn bridge_mac(namespace: &str, bridge: &LinkName) -> MacAddr {
    MacAddr::hashed(format!("{namespace}/{bridge}").as_bytes())
}

/// Whether a bridge with that MAC address is ours: one with a tunnel has the gateway's on every host.
pub fn is_bridge_mac(namespace: &str, bridge: &LinkName, mac: MacAddr) -> bool {
    mac == bridge_mac(namespace, bridge) || mac.is_gateway()
}

/// The Docker network of a launcher's subnet that names none. Docker allows letters, digits, `_`, `.` and `-`.
pub fn docker_network(tenant: &TenantId, subnet: Subnet) -> String {
    // A tenant's name may have a '-', and so end like the beginning of an IPv6 subnet.
    format!("{tenant}-{}", subnet.to_string().replace('/', "-").replace(':', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_networks_of_two_tenants_have_two_names() {
        let name = |tenant: &str, subnet: &str| docker_network(&tenant.parse().unwrap(), subnet.parse().unwrap());
        assert_eq!(name("red", "10.5.0.0/24"), "red-10.5.0.0-24");
        assert_ne!(name("a", "fd00:1::/64"), name("a-fd00", "1::/64"));
        assert_ne!(name("a", "fd00:1::/64"), name("a", "fd00::1:0:0:0/64"));
    }
}
