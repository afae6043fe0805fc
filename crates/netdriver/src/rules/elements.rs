// SPDX-License-Identifier: Apache-2.0
//! The elements of networks, VNICs and published ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use anyhow::Result;
use ciao_common::store::{Egress, Egress6, Network, Port, Tx, Vnic};
use ciao_common::types::{LinkName, MacAddr, Subnet};

use crate::kernel::element::{Element, Part, Table};
use crate::kernel::state::SeenLink;

/// What VNICs may do on their bridge.
#[derive(Clone, Copy)]
pub(crate) struct Restrictions {
    /// Anti-spoofing: each sends with its own addresses only.
    pub(crate) secured: bool,
    /// None reaches another one.
    pub(crate) isolated: bool,
}

impl Restrictions {
    /// Those of a recorded VNIC's bridge.
    pub(crate) fn recorded(tx: &Tx<'_>, vnic: &Vnic) -> Result<Self> {
        let (secured, isolated) = tx.restrictions_on_bridge(vnic.namespace.as_deref(), &vnic.bridge)?;
        Ok(Self { secured, isolated })
    }

    /// According to all networks on a bridge.
    pub(crate) fn on_bridge(networks: &[Network], bridge: &LinkName) -> Self {
        let mut here = networks.iter().filter(|network| network.bridge == *bridge);
        let secured = here.clone().all(|network| network.secured);
        Self { secured, isolated: here.any(|network| !network.icc) }
    }
}

/// Whether a network's containers have egress, and reach each other by its bridge, which has these restrictions.
pub(crate) fn network_elements(network: &Network, restrictions: Restrictions) -> Vec<Element> {
    let bridge = || Part::Link(network.bridge.clone());
    let element = |set, parts: Vec<Part>| Element::new(Table::Inet, set, parts);
    let mut elements = Vec::new();
    if network.egress == Egress::Nat {
        elements.push(element("nat", vec![bridge()]));
        match network.egress6 {
            Egress6::Nat => {}
            Egress6::Route => elements.push(element("routed6", vec![bridge()])),
            Egress6::None => elements.push(element("no_egress6", vec![bridge()])),
        }
    }
    elements.push(element("same_bridge", vec![bridge(), bridge()]));
    if !restrictions.isolated {
        elements.push(element("intra_bridge", vec![bridge(), bridge()]));
    }
    elements
}

/// The subnets of a network that leave with their own addresses.
pub(crate) fn routed6(network: &Network) -> impl Iterator<Item = Subnet> {
    let routed = network.egress == Egress::Nat && network.egress6 == Egress6::Route;
    network.subnets.iter().map(|subnet| subnet.subnet).filter(move |subnet| routed && subnet.network().is_ipv6())
}

/// The host's elements of a network with that uplink: its subnets, whose addresses other machines may have too, and
/// those that leave with their own addresses.
pub(crate) fn host_elements(network: &Network, uplink: &LinkName) -> Vec<Element> {
    if network.egress != Egress::Nat {
        return Vec::new();
    }
    let element = |set, subnet| Element::new(Table::Inet, set, [Part::Link(uplink.clone()), Part::Subnet(subnet)]);
    let own = network.subnets.iter().map(|subnet| {
        let set = if subnet.subnet.network().is_ipv4() { "subnets4" } else { "subnets6" };
        element(set, subnet.subnet)
    });
    own.chain(routed6(network).map(|subnet| element("routed6", subnet))).collect()
}

/// The addresses that a VNIC may use, its rate, and its restrictions.
pub(crate) fn vnic_elements(vnic: &Vnic, restrictions: Restrictions) -> Vec<Element> {
    let link = || Part::Link(vnic.host_link.clone());
    let element = |set, parts: Vec<Part>| Element::new(Table::Bridge, set, parts);
    let mut elements = vec![element("macs", vec![link(), Part::Mac(vnic.mac)])];
    let link_local = IpAddr::from(link_local(vnic.mac));
    for address in vnic.addresses().chain(vnic.allowed.iter().copied()).chain([link_local]) {
        elements.push(source(&vnic.host_link, address));
        if let IpAddr::V6(v6) = address {
            elements.push(element("nd_targets", vec![link(), Part::Bytes(v6.octets().to_vec())]));
        }
    }
    if vnic.rate.is_some() {
        elements.push(Element { limit: vnic.rate, ..element("rate_limited", vec![link()]) });
    }
    for (set, is_in) in [("unfiltered", !restrictions.secured), ("isolated", restrictions.isolated)] {
        if is_in {
            elements.push(element(set, vec![link()]));
        }
    }
    elements
}

/// An address that a VNIC may send with.
pub(crate) fn source(host_link: &LinkName, address: IpAddr) -> Element {
    let set = if address.is_ipv4() { "ips4" } else { "ips6" };
    Element::new(Table::Bridge, set, [Part::Link(host_link.clone()), Part::Address(address)])
}

/// The further addresses that VNICs of one tenant may send with because one container has several of them: each
/// other's. A container that is asked at one of its addresses answers by the route that it has, which may be another
/// VNIC's.
pub(crate) fn shared_sources(vnics: &[Vnic], links: &BTreeMap<LinkName, SeenLink>) -> BTreeSet<(LinkName, IpAddr)> {
    let own = |vnic: &Vnic| vnic.addresses().chain(vnic.allowed.iter().copied()).collect::<BTreeSet<_>>();
    let mut containers = BTreeMap::<i32, Vec<&Vnic>>::new();
    for vnic in vnics {
        if let Some(sandbox) = links.get(&vnic.host_link).and_then(|link| link.sandbox) {
            containers.entry(sandbox).or_default().push(vnic);
        }
    }
    let several = containers.values().filter(|vnics| vnics.len() > 1);
    let of_container = |vnics: &Vec<&Vnic>| {
        let all: BTreeSet<_> = vnics.iter().flat_map(|vnic| own(vnic)).collect();
        let others = |vnic: &&Vnic| {
            let link = vnic.host_link.clone();
            all.difference(&own(vnic)).map(move |address| (link.clone(), *address)).collect::<Vec<_>>()
        };
        vnics.iter().flat_map(others).collect::<Vec<_>>()
    };
    several.flat_map(of_container).collect()
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
    let key = [Part::Protocol(port.protocol), Part::Port(port.inner_port)];
    Element::new(Table::Inet, set, key).leading_to([Part::Address(port.address), Part::Port(port.container_port)])
}

/// A published port's step from the host to the tenant's uplink, which has that address.
pub(crate) fn outer_port(port: &Port, uplink: IpAddr) -> Element {
    let key = [Part::Protocol(port.protocol), Part::Port(port.host_port)];
    let (set, key) = match port.host_address {
        IpAddr::V4(v4) if v4.is_unspecified() => ("ports4", key.to_vec()),
        IpAddr::V6(v6) if v6.is_unspecified() => ("ports6", key.to_vec()),
        address => {
            let set = if address.is_ipv4() { "ports4_on" } else { "ports6_on" };
            (set, [Part::Address(address)].into_iter().chain(key).collect())
        }
    };
    Element::new(Table::Inet, set, key).leading_to([Part::Address(uplink), Part::Port(port.inner_port)])
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
