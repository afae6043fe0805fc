//! The nftables rules: two fixed rulesets, and the elements that come and go.
//!
//! In a tenant's namespace, table `bridge ciao` keeps each VNIC to its own addresses, and table `inet ciao` says what
//! may leave. On the host, table `inet ciao` has the published ports and what tenants may not reach. A change is one
//! transaction of a few elements, at the same cost with two thousand VNICs as with two; a whole ruleset is only
//! written when a namespace is made or its rules are gone.

use std::net::{IpAddr, Ipv6Addr};

use ciao_common::store::{Egress, Egress6, Network, Port, Uplink, Vnic};
use ciao_common::types::{LinkName, MacAddr, Subnet};

use crate::uplink::Pools;

const TENANT: &str = include_str!("tenant.nft");
const HOST: &str = include_str!("host.nft");

/// What a tenant's namespace has.
pub(crate) struct Tenant<'a> {
    pub(crate) networks: &'a [Network],
    pub(crate) vnics: &'a [Vnic],
    pub(crate) ports: &'a [Port],
}

impl Tenant<'_> {
    /// The whole ruleset of its namespace.
    pub(crate) fn script(&self) -> String {
        let mut script = TENANT.to_owned();
        for network in self.networks {
            script.push_str(&network_elements(network, true));
        }
        for vnic in self.vnics {
            script.push_str(&vnic_elements(vnic, Walls::on_bridge(self.networks, vnic), true));
        }
        for port in self.ports {
            script.push_str(&inner_port(port, true));
        }
        script
    }
}

/// What keeps a VNIC in.
#[derive(Clone, Copy)]
pub(crate) struct Walls {
    /// It sends with its own addresses only.
    pub(crate) secured: bool,
    /// It reaches no other one on its bridge.
    pub(crate) alone: bool,
}

impl Walls {
    /// As the networks on a VNIC's bridge say.
    pub(crate) fn on_bridge(networks: &[Network], vnic: &Vnic) -> Self {
        let mut here = networks.iter().filter(|network| network.bridge == vnic.bridge);
        let secured = here.clone().all(|network| network.secured);
        Self { secured, alone: here.any(|network| !network.icc) }
    }
}

/// The whole ruleset of the host's namespace.
pub(crate) fn host_script(networks: &[Network], ports: &[Port], uplinks: &[Uplink], pools: &Pools) -> String {
    let mut script = HOST.to_owned();
    for network in networks {
        script.push_str(&host_elements(network, true));
    }
    for port in ports {
        if let Some(uplink) = uplinks.iter().find(|uplink| uplink.namespace == port.namespace) {
            script.push_str(&outer_port(port, uplink, pools, true));
        }
    }
    script
}

/// Says which bridges are Docker's own.
pub(crate) fn docker_script(bridges: &[LinkName]) -> String {
    let mut script = "flush set inet ciao docker\n".to_owned();
    for bridge in bridges {
        script.push_str(&element("inet ciao docker", &format!("\"{bridge}\""), true));
    }
    script
}

/// Takes the host's rules away.
pub(crate) const NO_HOST_SCRIPT: &str = "table inet ciao\ndelete table inet ciao\n";

/// Adds an element, or takes it out.
fn element(set: &str, content: &str, add: bool) -> String {
    if add {
        return format!("add element {set} {{ {content} }}\n");
    }
    // Its value or statement is no part of the key.
    let key = content.split(" : ").next().and_then(|key| key.split(" limit ").next()).unwrap_or(content);
    format!("delete element {set} {{ {key} }}\n")
}

/// Whether a network's containers may leave, and reach each other.
pub(crate) fn network_elements(network: &Network, add: bool) -> String {
    let bridge = format!("\"{}\"", network.bridge);
    let mut script = String::new();
    if network.egress == Egress::Nat {
        script.push_str(&element("inet ciao nat", &bridge, add));
        match network.egress6 {
            Egress6::Nat => {}
            Egress6::Route => script.push_str(&element("inet ciao routed6", &bridge, add)),
            Egress6::None => script.push_str(&element("inet ciao in6", &bridge, add)),
        }
    }
    let itself = format!("{bridge} . {bridge}");
    script.push_str(&element("inet ciao self", &itself, add));
    if network.icc {
        script.push_str(&element("inet ciao same", &itself, add));
    }
    script
}

/// The subnets of a network that leave with their own addresses.
pub(crate) fn routed6(network: &Network) -> impl Iterator<Item = Subnet> {
    let routed = network.egress == Egress::Nat && network.egress6 == Egress6::Route;
    network.subnets.iter().map(|subnet| subnet.subnet).filter(move |subnet| routed && subnet.network().is_ipv6())
}

/// The host's step of [`routed6`].
pub(crate) fn host_elements(network: &Network, add: bool) -> String {
    routed6(network).map(|subnet| element("inet ciao routed6", &subnet.to_string(), add)).collect()
}

/// What a VNIC may call itself.
pub(crate) fn vnic_elements(vnic: &Vnic, walls: Walls, add: bool) -> String {
    let link = &vnic.host_link;
    let mut script = element("bridge ciao macs", &format!("\"{link}\" . {}", vnic.mac), add);
    let own = [vnic.v4, vnic.v6].into_iter().flatten().map(|(_, address)| address);
    let link_local = IpAddr::from(link_local(vnic.mac));
    for address in own.chain(vnic.allowed.iter().copied()).chain([link_local]) {
        match address {
            IpAddr::V4(v4) => script.push_str(&element("bridge ciao ips4", &format!("\"{link}\" . {v4}"), add)),
            IpAddr::V6(v6) => {
                script.push_str(&element("bridge ciao ips6", &format!("\"{link}\" . {v6}"), add));
                script.push_str(&element(
                    "bridge ciao targets",
                    &format!("\"{link}\" . 0x{:032x}", u128::from(v6)),
                    add,
                ));
            }
        }
    }
    if let Some(rate) = vnic.rate {
        let limit = format!("limit rate over {} bytes/second burst {} bytes", rate.bytes(), rate.burst());
        script.push_str(&element("bridge ciao slow", &format!("\"{link}\" {limit}"), add));
    }
    for (set, is_in) in [("open", !walls.secured), ("alone", walls.alone)] {
        if is_in {
            script.push_str(&element(&format!("bridge ciao {set}"), &format!("\"{link}\""), add));
        }
    }
    script
}

/// The link-local address that a container's kernel makes of its MAC address (RFC 4291, appendix A).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

fn family(address: IpAddr) -> char {
    if address.is_ipv4() { '4' } else { '6' }
}

/// A published port's step from the tenant's uplink to the container.
pub(crate) fn inner_port(port: &Port, add: bool) -> String {
    let content = format!("{} . {} : {} . {}", port.protocol, port.host_port, port.address, port.container_port);
    element(&format!("inet ciao ports{}", family(port.address)), &content, add)
}

/// A published port's step from the host to the tenant's uplink.
pub(crate) fn outer_port(port: &Port, uplink: &Uplink, pools: &Pools, add: bool) -> String {
    let target = pools.inner_address(uplink.number, port.host_address.is_ipv6());
    let place = format!("{} . {} : {target}", port.protocol, port.host_port);
    let set = format!("inet ciao ports{}", family(port.host_address));
    if port.host_address.is_unspecified() {
        element(&set, &place, add)
    } else {
        element(&format!("{set}_on"), &format!("{} . {place}", port.host_address), add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_is_the_mac_s_eui_64() {
        let mac: MacAddr = "02:00:c0:a8:6f:02".parse().unwrap();
        assert_eq!(link_local(mac).to_string(), "fe80::c0ff:fea8:6f02");
    }

    #[test]
    fn an_element_is_taken_out_by_its_key() {
        let out = |content| element("inet ciao x", content, false);
        assert_eq!(out("tcp . 80 : 10.0.0.2 . 80"), "delete element inet ciao x { tcp . 80 }\n");
        assert_eq!(out("\"hv1\" limit rate over 1 bytes/second"), "delete element inet ciao x { \"hv1\" }\n");
    }
}
