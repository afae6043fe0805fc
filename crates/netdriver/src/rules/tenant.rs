// SPDX-License-Identifier: Apache-2.0
//! The ruleset of a tenant's namespace.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ciao_common::store::{Egress, Network, Port, Vnic};
use ciao_common::types::{LinkName, Subnet};

use super::egress::{common, listed};
use super::elements::{Restrictions, inner_port, network_elements, source, vnic_elements};
use crate::kernel::element::{Element, Ruleset};

const RULESET: &str = include_str!("tenant.nft");

/// What a tenant's namespace has.
pub(crate) struct Tenant<'a> {
    pub(crate) networks: &'a [Network],
    pub(crate) vnics: &'a [Vnic],
    pub(crate) ports: &'a [Port],
    /// Addresses of other VNICs of the same container, by VNICs' host links.
    pub(crate) shared: &'a BTreeSet<(LinkName, IpAddr)>,
    /// How many flows to other hosts it may have; 0: any number.
    pub(crate) flows: u32,
    /// What no network reaches unless its `egress_allow` has it.
    pub(crate) deny: &'a [Subnet],
}

/// In how many groups flows are counted.
const FLOW_GROUPS: u32 = 512;

impl Tenant<'_> {
    /// The whole ruleset of its namespace.
    pub(crate) fn ruleset(&self) -> Ruleset {
        let on = |bridge| Restrictions::on_bridge(self.networks, bridge);
        let mut elements: Vec<_> =
            self.networks.iter().flat_map(|network| network_elements(network, on(&network.bridge))).collect();
        for vnic in self.vnics {
            elements.extend(vnic_elements(vnic, on(&vnic.bridge)));
        }
        elements.extend(self.shared.iter().map(|(link, address)| source(link, *address)));
        elements.extend(self.ports.iter().map(inner_port));
        elements.extend(self.exceptions());
        // The kernel's counts are of 32 bits.
        let in_group = if self.flows == 0 { u32::MAX } else { self.flows.div_ceil(FLOW_GROUPS) };
        Ruleset { tables: RULESET.replace("#flows#", &in_group.to_string()), elements }
    }

    /// Exceptions to `deny` of each bridge. The host makes them for all of the tenant's, since it sees one uplink; so
    /// what one network is allowed is closed here to the others.
    fn exceptions(&self) -> Vec<Element> {
        let leaving = || self.networks.iter().filter(|network| network.egress == Egress::Nat);
        let allowed = leaving().flat_map(|network| &network.egress_allow);
        let mut elements = listed(["egress_deny4", "egress_deny6"], None, &common(allowed, self.deny));
        elements.extend(listed(["denied4", "denied6"], None, self.deny));
        for bridge in leaving().map(|network| &network.bridge).collect::<BTreeSet<_>>() {
            let own = leaving().filter(|network| network.bridge == *bridge).flat_map(|network| &network.egress_allow);
            elements.extend(listed(["egress_allow4", "egress_allow6"], Some(bridge), own));
        }
        elements
    }
}
