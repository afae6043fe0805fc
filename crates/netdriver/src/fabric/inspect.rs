// SPDX-License-Identifier: Apache-2.0
//! What the records need in the kernel, and what of it is missing or wrong there.
//!
//! The order is that of repair: a namespace before its rules, rules before links that are up.

use anyhow::Result;
use ciao_common::store::{Egress, Network, Owner, Uplink, Vnic};
use ciao_common::types::LinkName;

use super::Fabric;
use super::fault::{Fault, Subject};
use crate::alias;
use crate::kernel::Namespace;
use crate::kernel::state::{Seen, SeenLink};
use crate::names;
use crate::rules::Restrictions;

/// What is recorded of a namespace, or of the bridges of the host.
pub(crate) struct Space {
    pub(crate) namespace: Option<String>,
    pub(crate) networks: Vec<Network>,
    pub(crate) vnics: Vec<Vnic>,
    pub(crate) uplink: Option<Uplink>,
}

/// A link that is not there.
const ABSENT: SeenLink =
    SeenLink { is_up: false, is_bridge: false, mac: None, bridge: None, learns: None, alias: None, sandbox: None };

impl Fabric {
    /// What is recorded of a namespace now.
    pub(crate) fn space(&self, namespace: Option<&str>) -> Result<Space> {
        let (networks, vnics, uplink) = self.store.read(|tx| match namespace {
            Some(name) => Ok((tx.networks_in_namespace(name)?, tx.vnics_in_namespace(name)?, tx.uplink(name)?)),
            None => {
                let networks = tx.networks()?.into_iter().filter(|network| network.namespace.is_none());
                let vnics = tx.vnics(None)?.into_iter().filter(|vnic| vnic.namespace.is_none());
                Ok((networks.collect(), vnics.collect(), None))
            }
        })?;
        Ok(Space { namespace: namespace.map(str::to_owned), networks, vnics, uplink })
    }

    /// The faults of what all tenants' uplinks share on the host.
    pub(crate) fn host_faults(&self, host: &Seen, closely: bool) -> Result<Vec<Fault>> {
        let mut found = Vec::new();
        if let Some(why) = self.host_rules.difference(closely)? {
            found.push(Fault::new("restore", Subject::HostRules, why));
        }
        if let Some(why) = self.tunnels.rules.difference()? {
            found.push(Fault::new("restore", Subject::TunnelRules, why));
        }
        if let Some(why) = self.tunnels.hosts_difference()? {
            found.push(Fault::new("restore", Subject::Hosts, why));
        }
        if host.wrong_settings.is_empty() {
            return Ok(found);
        }
        let networks = self.store.read(|tx| tx.networks())?;
        let routed = networks.iter().filter(|network| network.egress == Egress::Nat && network.namespace.is_some());
        for setting in &host.wrong_settings {
            let is_of_v6 = setting.starts_with("net.ipv6.");
            if let Some(network) = routed.clone().find(|network| !is_of_v6 || network.has_v6()) {
                found.push(Fault::new("restore", Subject::Forwarding(setting, network.clone()), "disabled"));
            }
        }
        Ok(found)
    }

    /// The faults of a namespace. `host` is the state of the host's; rules are compared one by one if `closely`, else
    /// only where something else changed them.
    pub(crate) fn faults(&self, space: &Space, host: &Seen, closely: bool) -> Result<Vec<Fault>> {
        let mut found = Vec::new();
        let inside = match &space.namespace {
            None => None,
            Some(name) => Some(self.look_into(name, &space.vnics, closely, &mut found)?),
        };
        let seen = inside.as_ref().unwrap_or(host);
        let is_lost = space.namespace.as_deref().map_or(Ok(false), |name| self.lost.has(name))?;
        for network in &space.networks {
            let alias = alias::of_bridge(space.networks.iter().filter(|other| other.bridge == network.bridge));
            network_faults(network, Some(alias.as_str()).filter(|_| !is_lost), seen, &mut found);
            if let Some(why) = self.tunnels.difference(network)? {
                found.push(Fault::new("restore", Subject::Tunnel(network.clone()), why));
            }
        }
        if let Some(fault) = self.uplink_fault(space, seen, host)? {
            found.push(fault);
        }
        for vnic in &space.vnics {
            found.extend(vnic_fault(vnic, Restrictions::on_bridge(&space.networks, &vnic.bridge), seen, host));
        }
        Ok(found)
    }

    /// The state of a tenant's namespace; empty if it does not exist.
    fn look_into(&self, name: &str, vnics: &[Vnic], closely: bool, found: &mut Vec<Fault>) -> Result<Seen> {
        let Some(seen) = self.kernel.look(&Namespace::Named(name.to_owned()))? else {
            found.push(Fault::new("create", Subject::Namespace(name.to_owned()), "missing"));
            return Ok(Seen::default());
        };
        for setting in &seen.wrong_settings {
            found.push(Fault::new("restore", Subject::Setting(name.to_owned(), setting), "changed"));
        }
        if let Some(why) = self.tenant_rules.difference(name, closely)? {
            found.push(Fault::new("restore", Subject::Rules(name.to_owned()), why));
        } else if self.tenant_rules.is_sharing_old(name, vnics, &seen) {
            let why = "VNICs of a container were added or removed";
            found.push(Fault::new("restore", Subject::SharedAddresses(name.to_owned()), why));
        }
        Ok(seen)
    }

    fn uplink_fault(&self, space: &Space, seen: &Seen, host: &Seen) -> Result<Option<Fault>> {
        let Some(namespace) = &space.namespace else { return Ok(None) };
        let Some(network) = space.networks.iter().find(|network| network.egress == Egress::Nat) else {
            return Ok(None);
        };
        let Some(uplink) = &space.uplink else {
            // The record comes with the link.
            let uplink = Uplink { namespace: namespace.clone(), number: 0, host_link: names::INNER_LINK.parse()? };
            return Ok(Some(Fault::new("create", Subject::Uplink(uplink, network.clone()), "missing")));
        };
        let pair = self.uplinks.pair(uplink, space.networks.iter().any(Network::has_v6))?;
        let ends = [(&pair.host_link, host), (&pair.inner_link, seen)];
        let fault =
            |action, why: &str| Ok(Some(Fault::new(action, Subject::Uplink(uplink.clone(), network.clone()), why)));
        if ends.iter().any(|(link, seen)| !seen.links.contains_key(link)) {
            return fault("create", "missing");
        }
        if ends.iter().any(|(link, seen)| !seen.links[*link].is_up) {
            return fault("restore", "down");
        }
        for (host_end, inner_end) in pair.ends() {
            let has = |seen: &Seen, link: &LinkName, address| seen.addresses.contains(&(link.clone(), address));
            if !has(host, &pair.host_link, host_end) || !has(seen, &pair.inner_link, inner_end) {
                return fault("restore", "an address is missing");
            }
            if !seen.default_routes.contains(&(pair.inner_link.clone(), host_end)) {
                return fault("restore", "the default route of the namespace is missing");
            }
        }
        Ok(None)
    }
}

/// Without an alias it is not compared.
fn network_faults(network: &Network, alias: Option<&str>, seen: &Seen, found: &mut Vec<Fault>) {
    let link = seen.links.get(&network.bridge).unwrap_or(&ABSENT);
    let bridge = || Subject::Bridge(network.clone());
    if !link.is_bridge {
        found.push(Fault::new("create", bridge(), "missing"));
        return;
    }
    // A bridge of the host is its administrator's.
    let Some(namespace) = &network.namespace else { return };
    if !link.is_up {
        found.push(Fault::new("restore", bridge(), "down"));
    }
    let is_own = link.mac.is_some_and(|mac| names::is_bridge_mac(namespace, &network.bridge, mac));
    if is_own && alias.is_some_and(|alias| link.alias.as_deref() != Some(alias)) {
        found.push(Fault::new("restore", bridge(), "its alias was changed"));
    }
    if network.egress != Egress::Nat {
        return;
    }
    for gateway in network.subnets.iter().filter_map(|subnet| subnet.gateway) {
        if !seen.addresses.contains(&(network.bridge.clone(), gateway)) {
            found.push(Fault::new("restore", Subject::Gateway(network.clone(), gateway), "missing"));
        }
    }
}

fn vnic_fault(vnic: &Vnic, restrictions: Restrictions, seen: &Seen, host: &Seen) -> Option<Fault> {
    let Some(end) = seen.links.get(&vnic.host_link) else {
        let subject = if vnic.owner == Owner::Launcher { Subject::Pair } else { Subject::ContainerLink };
        let action = if vnic.owner == Owner::Launcher { "create" } else { "restart" };
        return Some(Fault::new(action, subject(vnic.clone()), "its links are missing"));
    };
    let container_end = host.links.get(&vnic.container_link);
    if vnic.owner == Owner::Launcher && container_end.is_some_and(|link| link.mac != Some(vnic.mac)) {
        return Some(Fault::new("create", Subject::Pair(vnic.clone()), "its link has a different MAC address"));
    }
    let fault = |why: &str| Some(Fault::new("restore", Subject::Port(vnic.clone()), why));
    if end.bridge.as_ref() != Some(&vnic.bridge) {
        return fault(&format!("not a port of {}", vnic.bridge));
    }
    if !end.is_up {
        return fault("down");
    }
    if end.alias.as_deref() != Some(&alias::of_vnic(vnic)) {
        return fault("its alias was changed");
    }
    // The tables of a host bridge are its administrator's.
    vnic.namespace.as_ref()?;
    if end.learns.is_some_and(|learns| learns == restrictions.secured) {
        return fault("MAC learning of its bridge port was changed");
    }
    if !seen.static_macs.contains(&(vnic.host_link.clone(), vnic.mac)) {
        return fault("its forwarding database entry is missing");
    }
    let is_neighbour = |address| seen.neighbours.contains(&(vnic.bridge.clone(), address, vnic.mac));
    if !vnic.addresses().all(is_neighbour) {
        return fault("its neighbour entry is missing");
    }
    None
}
