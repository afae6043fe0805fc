//! The nftables rules: two fixed rulesets, and the elements that come and go.
//!
//! In a tenant's namespace, table `bridge ciao` keeps each VNIC to its own addresses, and table `inet ciao` says what
//! may leave. On the host, table `inet ciao` has the published ports and what tenants may not reach. A change is one
//! transaction of a few elements, at the same cost with two thousand VNICs as with two; a whole ruleset is only
//! written when a namespace is made or its rules are gone.

use std::net::{IpAddr, Ipv6Addr};

use ciao_common::store::{Egress, Egress6, Network, Port, Uplink, Vnic};
use ciao_common::types::{LinkName, MacAddr, Subnet};

use crate::kernel::element::{Change, Element, Key, Part, Table, script};
use crate::uplink_pool::UplinkPool;

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
        let mut elements: Vec<_> = self.networks.iter().flat_map(network_elements).collect();
        for vnic in self.vnics {
            elements.extend(vnic_elements(vnic, Walls::on_bridge(self.networks, vnic)));
        }
        elements.extend(self.ports.iter().map(inner_port));
        TENANT.to_owned() + &script(&elements, Change::Add)
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
pub(crate) fn host_script(networks: &[Network], ports: &[Port], uplinks: &[Uplink], pools: &UplinkPool) -> String {
    let mut elements: Vec<_> = networks.iter().flat_map(host_elements).collect();
    elements.extend(ports.iter().filter_map(|port| {
        let uplink = uplinks.iter().find(|uplink| uplink.namespace == port.namespace)?;
        Some(outer_port(port, uplink, pools))
    }));
    HOST.to_owned() + &script(&elements, Change::Add)
}

/// Says which bridges lead out of the host.
pub(crate) fn ways_out_script(links: &[LinkName]) -> String {
    let element = |link: &LinkName| Element::new(Table::Inet, "ways_out", [Part::Link(link.clone())]);
    let elements: Vec<_> = links.iter().map(element).collect();
    "flush set inet ciao ways_out\n".to_owned() + &script(&elements, Change::Add)
}

/// Takes the host's rules away.
pub(crate) const NO_HOST_SCRIPT: &str = "table inet ciao\ndelete table inet ciao\n";

/// Whether a network's containers may leave, and reach each other.
pub(crate) fn network_elements(network: &Network) -> Vec<Element> {
    let bridge = || Part::Link(network.bridge.clone());
    let element = |set, parts: Vec<Part>| Element::new(Table::Inet, set, parts);
    let mut elements = Vec::new();
    if network.egress == Egress::Nat {
        elements.push(element("nat", vec![bridge()]));
        match network.egress6 {
            Egress6::Nat => {}
            Egress6::Route => elements.push(element("routed6", vec![bridge()])),
            Egress6::None => elements.push(element("in6", vec![bridge()])),
        }
    }
    elements.push(element("self", vec![bridge(), bridge()]));
    if network.icc {
        elements.push(element("same", vec![bridge(), bridge()]));
    }
    elements
}

/// The subnets of a network that leave with their own addresses.
pub(crate) fn routed6(network: &Network) -> impl Iterator<Item = Subnet> {
    let routed = network.egress == Egress::Nat && network.egress6 == Egress6::Route;
    network.subnets.iter().map(|subnet| subnet.subnet).filter(move |subnet| routed && subnet.network().is_ipv6())
}

/// The host's step of [`routed6`].
pub(crate) fn host_elements(network: &Network) -> Vec<Element> {
    routed6(network).map(routed6_element).collect()
}

/// The host's step of one subnet of [`routed6`].
pub(crate) fn routed6_element(subnet: Subnet) -> Element {
    Element { key: Key::Range(subnet), ..Element::new(Table::Inet, "routed6", []) }
}

/// What a VNIC may call itself.
pub(crate) fn vnic_elements(vnic: &Vnic, walls: Walls) -> Vec<Element> {
    let link = || Part::Link(vnic.host_link.clone());
    let element = |set, parts: Vec<Part>| Element::new(Table::Bridge, set, parts);
    let mut elements = vec![element("macs", vec![link(), Part::Mac(vnic.mac)])];
    let link_local = IpAddr::from(link_local(vnic.mac));
    for address in vnic.addresses().chain(vnic.allowed.iter().copied()).chain([link_local]) {
        let set = if address.is_ipv4() { "ips4" } else { "ips6" };
        elements.push(element(set, vec![link(), Part::Address(address)]));
        if let IpAddr::V6(v6) = address {
            elements.push(element("targets", vec![link(), Part::Bytes(v6.octets())]));
        }
    }
    if vnic.rate.is_some() {
        elements.push(Element { limit: vnic.rate, ..element("slow", vec![link()]) });
    }
    for (set, is_in) in [("open", !walls.secured), ("alone", walls.alone)] {
        if is_in {
            elements.push(element(set, vec![link()]));
        }
    }
    elements
}

/// The link-local address that a container's kernel makes of its MAC address (RFC 4291, appendix A).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

/// A published port's step from the tenant's uplink to the container.
pub(crate) fn inner_port(port: &Port) -> Element {
    let set = if port.address.is_ipv4() { "ports4" } else { "ports6" };
    let key = [Part::Protocol(port.protocol), Part::Port(port.host_port)];
    Element::new(Table::Inet, set, key).leading_to([Part::Address(port.address), Part::Port(port.container_port)])
}

/// A published port's step from the host to the tenant's uplink.
pub(crate) fn outer_port(port: &Port, uplink: &Uplink, pools: &UplinkPool) -> Element {
    let place = [Part::Protocol(port.protocol), Part::Port(port.host_port)];
    let (set, key) = match port.host_address {
        IpAddr::V4(v4) if v4.is_unspecified() => ("ports4", place.to_vec()),
        IpAddr::V6(v6) if v6.is_unspecified() => ("ports6", place.to_vec()),
        address => {
            let set = if address.is_ipv4() { "ports4_on" } else { "ports6_on" };
            (set, [Part::Address(address)].into_iter().chain(place).collect())
        }
    };
    let target = pools.inner_address(uplink.number, port.host_address.is_ipv6());
    Element::new(Table::Inet, set, key).leading_to([Part::Address(target)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_is_the_mac_s_eui_64() {
        let mac: MacAddr = "02:00:c0:a8:6f:02".parse().unwrap();
        assert_eq!(link_local(mac).to_string(), "fe80::c0ff:fea8:6f02");
    }
}
