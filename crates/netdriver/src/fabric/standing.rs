// SPDX-License-Identifier: Apache-2.0
//! What must stand in the kernel for the records: the one list of it, how it is seen that something does not, and how each
//! is repaired.
//!
//! The order is that of repair: a namespace before its rules, rules before links that are up.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Result, bail};
use ciao_common::store::{Egress, Network, Owner, Uplink, Vnic};
use ciao_common::types::LinkName;

use super::Fabric;
use super::uplinks::has_v6;
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

/// Something that must stand for a record.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A setting of the host that the uplink of a network needs.
    Forwarding(&'static str, Network),
    /// The rules of the host's namespace.
    HostRules,
    /// A tenant's namespace.
    Namespace(String),
    /// A setting of the kernel in it.
    Setting(String, &'static str),
    /// Its rules.
    Rules(String),
    /// A network's bridge.
    Bridge(Network),
    /// A gateway's address on it.
    Gateway(Network, IpAddr),
    /// A tenant's way to the host: both ends, their addresses, the default routes.
    Uplink(Uplink, Network),
    /// The end of a VNIC's link that is on its bridge.
    Port(Vnic),
    /// A launcher's VNIC: the pair of links.
    Pair(Vnic),
    /// A link that is in a container. It cannot be given to it again while it runs.
    ContainerLink(Vnic),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forwarding(setting, _) => write!(f, "{setting} of the host"),
            Self::HostRules => f.write_str("rules of the host"),
            Self::Namespace(name) => write!(f, "network namespace {name}"),
            Self::Setting(name, setting) => write!(f, "{setting} of network namespace {name}"),
            Self::Rules(name) => write!(f, "rules of network namespace {name}"),
            Self::Bridge(network) => write!(f, "bridge {} of network {}", network.bridge, network.id.short()),
            Self::Gateway(network, address) => {
                write!(f, "gateway address {address} of network {}", network.id.short())
            }
            Self::Uplink(uplink, _) => {
                write!(f, "uplink {} of network namespace {}", uplink.host_link, uplink.namespace)
            }
            Self::Port(vnic) => write!(f, "link {} of VNIC {}", vnic.host_link, vnic.id),
            Self::Pair(vnic) => write!(f, "VNIC {}", vnic.id),
            Self::ContainerLink(vnic) => write!(f, "container on VNIC {}", vnic.id),
        }
    }
}

/// What is wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// `make`, `restore` or `restart`.
    pub(crate) action: &'static str,
    pub(crate) subject: Subject,
    pub(crate) why: String,
}

impl Fault {
    pub(crate) fn new(action: &'static str, subject: Subject, why: impl Into<String>) -> Self {
        Self { action, subject, why: why.into() }
    }

    /// Whether nothing may come up in its namespace until it is repaired.
    pub(crate) fn holds_up_others(&self) -> bool {
        matches!(self.subject, Subject::HostRules | Subject::Namespace(_) | Subject::Rules(_))
    }
}

/// A link that is not there.
const ABSENT: SeenLink = SeenLink { is_up: false, is_bridge: false, mac: None, bridge: None, learns: None };

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

    /// What of the host's part does not stand, which all tenants' uplinks share.
    pub(crate) fn host_faults(&self, host: &Seen, closely: bool) -> Result<Vec<Fault>> {
        let mut found = Vec::new();
        if let Some(why) = self.host_rules.difference(closely)? {
            found.push(Fault::new("restore", Subject::HostRules, why));
        }
        if host.wrong_settings.is_empty() {
            return Ok(found);
        }
        let networks = self.store.read(|tx| tx.networks())?;
        let routed = networks.iter().filter(|network| network.egress == Egress::Nat && network.namespace.is_some());
        for setting in &host.wrong_settings {
            let is_of_v6 = setting.starts_with("net.ipv6.");
            let mut needing = routed.clone().filter(|network| !is_of_v6 || has_v6(std::slice::from_ref(network)));
            if let Some(network) = needing.next() {
                found.push(Fault::new("restore", Subject::Forwarding(setting, network.clone()), "it was switched off"));
            }
        }
        Ok(found)
    }

    /// What of a namespace does not stand. `host` is what stands in the host's; rules are compared one by one if
    /// `closely`, else only where somebody changed them.
    pub(crate) fn faults(&self, space: &Space, host: &Seen, closely: bool) -> Result<Vec<Fault>> {
        let mut found = Vec::new();
        let inside = match &space.namespace {
            None => None,
            Some(name) => Some(self.look_into(name, closely, &mut found)?),
        };
        let seen = inside.as_ref().unwrap_or(host);
        for network in &space.networks {
            network_faults(network, seen, &mut found);
        }
        if let Some(fault) = self.uplink_fault(space, seen, host)? {
            found.push(fault);
        }
        for vnic in &space.vnics {
            found.extend(vnic_fault(vnic, Restrictions::on_bridge(&space.networks, vnic), seen, host));
        }
        Ok(found)
    }

    /// What stands in a tenant's namespace; nothing, if it is not there.
    fn look_into(&self, name: &str, closely: bool, found: &mut Vec<Fault>) -> Result<Seen> {
        let Some(seen) = self.kernel.look(&Namespace::Named(name.to_owned()))? else {
            found.push(Fault::new("make", Subject::Namespace(name.to_owned()), "it is not there"));
            return Ok(Seen::default());
        };
        for setting in &seen.wrong_settings {
            found.push(Fault::new("restore", Subject::Setting(name.to_owned(), setting), "it was changed"));
        }
        if let Some(why) = self.tenant_rules.difference(name, closely)? {
            found.push(Fault::new("restore", Subject::Rules(name.to_owned()), why));
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
            return Ok(Some(Fault::new("make", Subject::Uplink(uplink, network.clone()), "it is not there")));
        };
        let pair = self.uplinks.pair(uplink, has_v6(&space.networks))?;
        let ends = [(&pair.host_link, host), (&pair.inner_link, seen)];
        let fault =
            |action, why: &str| Ok(Some(Fault::new(action, Subject::Uplink(uplink.clone(), network.clone()), why)));
        if ends.iter().any(|(link, seen)| !seen.links.contains_key(link)) {
            return fault("make", "it is not there");
        }
        if ends.iter().any(|(link, seen)| !seen.links[*link].is_up) {
            return fault("restore", "it is down");
        }
        for (host_end, inner_end) in pair.ends() {
            let has = |seen: &Seen, link: &LinkName, address| seen.addresses.contains(&(link.clone(), address));
            if !has(host, &pair.host_link, host_end) || !has(seen, &pair.inner_link, inner_end) {
                return fault("restore", "an address of it is gone");
            }
            if !seen.default_routes.contains(&(pair.inner_link.clone(), host_end)) {
                return fault("restore", "the namespace's default route by it is gone");
            }
        }
        Ok(None)
    }

    /// Repairs what does not stand, unless its record is gone meanwhile or somebody else did it. `true`: repaired here.
    pub(crate) fn repair(&self, fault: &Fault) -> Result<bool> {
        match &fault.subject {
            Subject::HostRules => self.host_rules.repair().map(|()| true),
            Subject::Namespace(name) | Subject::Setting(name, _) => self.repair_namespace(name),
            Subject::Rules(name) => self.repair_rules(name),
            Subject::Bridge(network) => self.repair_bridge(network),
            Subject::Gateway(network, address) => self.repair_gateway(network, *address),
            Subject::Forwarding(_, network) | Subject::Uplink(_, network) => self.repair_uplink(network),
            Subject::Port(vnic) => {
                let _lock = self.lock(vnic.namespace.as_deref());
                match self.store.read(|tx| tx.vnic(&vnic.id))? {
                    Some(vnic) => self.vnics.attach(&vnic).map(|()| true),
                    None => Ok(false),
                }
            }
            Subject::Pair(vnic) => {
                let _lock = self.lock(vnic.namespace.as_deref());
                self.store.read(|tx| tx.vnic(&vnic.id))?.map_or(Ok(false), |vnic| self.vnics.ensure(&vnic))
            }
            Subject::ContainerLink(vnic) => {
                let instance = vnic.instance.as_ref().map_or_else(String::new, |instance| format!(" {instance}"));
                bail!("no link can be given to a running container: restart container{instance}")
            }
        }
    }

    fn repair_namespace(&self, name: &str) -> Result<bool> {
        let _lock = self.lock(Some(name));
        if !self.store.read(|tx| tx.is_namespace_used(name))? {
            return Ok(false);
        }
        self.bridges.ensure_namespace(name).map(|()| true)
    }

    fn repair_rules(&self, name: &str) -> Result<bool> {
        let _lock = self.lock(Some(name));
        if !self.store.read(|tx| tx.is_namespace_used(name))? {
            return Ok(false);
        }
        self.tenant_rules.restore(name).map(|()| true)
    }

    fn repair_bridge(&self, network: &Network) -> Result<bool> {
        let _lock = self.lock(network.namespace.as_deref());
        let Some(network) = self.store.read(|tx| tx.network(&network.id))? else { return Ok(false) };
        self.ensure_network(&network)?;
        if let Some(namespace) = &network.namespace {
            self.kernel.set_up(namespace, &network.bridge)?;
        }
        Ok(true)
    }

    fn repair_gateway(&self, network: &Network, address: IpAddr) -> Result<bool> {
        let _lock = self.lock(network.namespace.as_deref());
        let network = self.store.read(|tx| tx.network(&network.id))?;
        let Some((network, namespace)) =
            network.as_ref().and_then(|found| found.namespace.as_ref().map(|name| (found, name)))
        else {
            return Ok(false);
        };
        for subnet in network.subnets.iter().filter(|subnet| subnet.gateway == Some(address)) {
            self.kernel.add_address(namespace, &network.bridge, subnet.subnet, address)?;
        }
        Ok(true)
    }

    fn repair_uplink(&self, network: &Network) -> Result<bool> {
        let Some(namespace) = &network.namespace else { return Ok(false) };
        let _lock = self.lock(Some(namespace));
        let networks = self.store.read(|tx| tx.networks_in_namespace(namespace))?;
        let mut routed = networks.iter().filter(|network| network.egress == Egress::Nat).peekable();
        let is_needed = routed.peek().is_some();
        routed.try_for_each(|network| self.uplinks.ensure(namespace, network))?;
        Ok(is_needed)
    }
}

fn network_faults(network: &Network, seen: &Seen, found: &mut Vec<Fault>) {
    let link = seen.links.get(&network.bridge).unwrap_or(&ABSENT);
    let bridge = || Subject::Bridge(network.clone());
    if !link.is_bridge {
        found.push(Fault::new("make", bridge(), "it is not there"));
        return;
    }
    // A bridge of the host is its administrator's.
    if network.namespace.is_none() {
        return;
    }
    if !link.is_up {
        found.push(Fault::new("restore", bridge(), "it is down"));
    }
    if network.egress != Egress::Nat {
        return;
    }
    for gateway in network.subnets.iter().filter_map(|subnet| subnet.gateway) {
        if !seen.addresses.contains(&(network.bridge.clone(), gateway)) {
            found.push(Fault::new("restore", Subject::Gateway(network.clone(), gateway), "it is gone"));
        }
    }
}

fn vnic_fault(vnic: &Vnic, restrictions: Restrictions, seen: &Seen, host: &Seen) -> Option<Fault> {
    let Some(end) = seen.links.get(&vnic.host_link) else {
        let subject = if vnic.owner == Owner::Launcher { Subject::Pair } else { Subject::ContainerLink };
        let action = if vnic.owner == Owner::Launcher { "make" } else { "restart" };
        return Some(Fault::new(action, subject(vnic.clone()), "its links are not there"));
    };
    let container_end = host.links.get(&vnic.container_link);
    if vnic.owner == Owner::Launcher && container_end.is_some_and(|link| link.mac != Some(vnic.mac)) {
        return Some(Fault::new("make", Subject::Pair(vnic.clone()), "its link has another MAC address"));
    }
    let fault = |why: &str| Some(Fault::new("restore", Subject::Port(vnic.clone()), why));
    if end.bridge.as_ref() != Some(&vnic.bridge) {
        return fault(&format!("it is no port of {}", vnic.bridge));
    }
    if !end.is_up {
        return fault("it is down");
    }
    // What a bridge of the host knows is its administrator's.
    vnic.namespace.as_ref()?;
    if end.learns.is_some_and(|learns| learns == restrictions.secured) {
        return fault("its bridge's learning was switched");
    }
    if !seen.static_macs.contains(&(vnic.host_link.clone(), vnic.mac)) {
        return fault("its MAC address is gone from its bridge");
    }
    let is_neighbour = |address| seen.neighbours.contains(&(vnic.bridge.clone(), address, vnic.mac));
    if !vnic.addresses().all(is_neighbour) {
        return fault("its address is no neighbour of its bridge");
    }
    None
}
