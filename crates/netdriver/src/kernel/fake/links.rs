// SPDX-License-Identifier: Apache-2.0
//! Links in the double: bridges, VNICs, uplinks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, bail, ensure};
use ciao_common::types::{LinkName, MacAddr, Mtu, Subnet};

use super::Fake;
use super::state::FakeLink;
use crate::kernel::{HostLink, LinkLocation, Links, Namespace, UplinkPair, Uplinks, Veth};

/// The index of a container's end: another one for another MAC address.
fn index_of(mac: MacAddr) -> u32 {
    mac.octets().into_iter().fold(0, |sum: u32, octet| sum.wrapping_mul(31).wrapping_add(octet.into()))
}

impl Links for Fake {
    fn host_link(&self, name: &LinkName) -> Result<HostLink> {
        Ok(match self.reading()?.links.get(&(Namespace::Host, name.clone())) {
            None => HostLink::Absent,
            Some(FakeLink::Bridge(_)) => HostLink::Bridge,
            Some(_) => HostLink::Other,
        })
    }

    fn links(&self, namespace: &Namespace) -> Result<Vec<LinkName>> {
        Ok(self.reading()?.links.keys().filter(|(ns, _)| ns == namespace).map(|(_, link)| link.clone()).collect())
    }

    fn delete_link(&self, namespace: &Namespace, link: &LinkName) -> Result<()> {
        self.changing()?.remove(namespace, link);
        Ok(())
    }

    fn ensure_bridge(&self, namespace: &str, bridge: &LinkName, _mtu: Option<Mtu>) -> Result<bool> {
        let mut state = self.changing()?;
        ensure!(state.namespaces.contains(namespace), "network namespace {namespace} does not exist");
        let key = (Namespace::Named(namespace.to_owned()), bridge.clone());
        if state.links.contains_key(&key) {
            return Ok(false);
        }
        state.links.insert(key, FakeLink::Bridge(BTreeSet::new()));
        Ok(true)
    }

    fn is_own_bridge(&self, namespace: &str, link: &LinkName) -> Result<bool> {
        let place = (Namespace::Named(namespace.to_owned()), link.clone());
        Ok(matches!(self.reading()?.links.get(&place), Some(FakeLink::Bridge(_))))
    }

    fn addresses(&self, namespace: &str) -> Result<Vec<(LinkName, Subnet, IpAddr)>> {
        let mut found = Vec::new();
        for ((inside, link), kind) in &self.reading()?.links {
            if let (true, FakeLink::Bridge(addresses)) = (inside.name() == Some(namespace), kind) {
                for address in addresses {
                    found.push((
                        link.clone(),
                        Subnet::new(*address, if address.is_ipv4() { 32 } else { 128 })?,
                        *address,
                    ));
                }
            }
        }
        Ok(found)
    }

    fn add_address(&self, namespace: &str, bridge: &LinkName, _subnet: Subnet, address: IpAddr) -> Result<()> {
        let mut state = self.changing()?;
        match state.links.get_mut(&(Namespace::Named(namespace.to_owned()), bridge.clone())) {
            Some(FakeLink::Bridge(addresses)) => addresses.insert(address),
            _ => bail!("bridge {bridge} does not exist"),
        };
        Ok(())
    }

    fn remove_address(&self, namespace: &str, bridge: &LinkName, _subnet: Subnet, address: IpAddr) -> Result<()> {
        let mut state = self.changing()?;
        if let Some(FakeLink::Bridge(addresses)) =
            state.links.get_mut(&(Namespace::Named(namespace.to_owned()), bridge.clone()))
        {
            addresses.remove(&address);
        }
        Ok(())
    }

    fn create_veth(&self, veth: &Veth) -> Result<()> {
        let mut state = self.changing()?;
        let bridge = state.links.get(&(veth.namespace.clone(), veth.bridge.clone()));
        ensure!(matches!(bridge, Some(FakeLink::Bridge(_))), "bridge {} does not exist", veth.bridge);
        let ends = [(veth.namespace.clone(), veth.host_link.clone()), (Namespace::Host, veth.container_link.clone())];
        ensure!(!ends.iter().any(|end| state.links.contains_key(end)), "link {} exists", veth.container_link);
        let [host, container] = ends;
        state.links.insert(host.clone(), FakeLink::HostEnd(veth.bridge.clone(), veth.container_link.clone()));
        state.aliases.insert(host, veth.alias.clone());
        state.links.insert(container, FakeLink::ContainerEnd(veth.mac));
        state.add_neighbours(veth);
        Ok(())
    }

    fn attach(&self, veth: &Veth) -> Result<()> {
        let mut state = self.changing()?;
        if let Some(FakeLink::HostEnd(bridge, _)) =
            state.links.get_mut(&(veth.namespace.clone(), veth.host_link.clone()))
        {
            bridge.clone_from(&veth.bridge);
            state.add_neighbours(veth);
            let place = (veth.namespace.clone(), veth.host_link.clone());
            state.down.remove(&place);
            state.aliases.insert(place, veth.alias.clone());
        }
        Ok(())
    }

    fn set_rate(&self, _veth: &Veth) -> Result<()> {
        self.changing().map(drop)
    }

    fn announce(&self, _namespace: &str, _bridge: &LinkName, _entries: &[(IpAddr, MacAddr)]) -> Result<()> {
        Ok(())
    }

    fn forget_neighbours(&self, namespace: &str, bridge: &LinkName, addresses: &[IpAddr]) -> Result<()> {
        let mut state = self.changing()?;
        for address in addresses {
            state.neighbours.remove(&(namespace.to_owned(), bridge.clone(), *address));
        }
        Ok(())
    }

    fn set_alias(&self, namespace: &Namespace, link: &LinkName, alias: &str) -> Result<()> {
        let mut state = self.changing()?;
        let place = (namespace.clone(), link.clone());
        if state.links.contains_key(&place) {
            state.aliases.insert(place, alias.to_owned());
        }
        Ok(())
    }

    fn set_up(&self, namespace: &str, link: &LinkName) -> Result<()> {
        let place = (Namespace::Named(namespace.to_owned()), link.clone());
        let mut state = self.changing()?;
        ensure!(state.links.contains_key(&place), "link {link} does not exist");
        state.down.remove(&place);
        Ok(())
    }

    fn set_down(&self, namespace: &Namespace, links: &[LinkName]) -> Result<()> {
        let mut state = self.changing()?;
        for link in links {
            let place = (namespace.clone(), link.clone());
            if state.links.contains_key(&place) {
                state.down.insert(place);
            }
        }
        Ok(())
    }

    fn delete_veths(&self, veths: &[Veth]) -> Result<()> {
        let mut state = self.changing()?;
        for veth in veths {
            state.remove(&veth.namespace, &veth.host_link);
        }
        Ok(())
    }

    fn locate(&self, veth: &Veth) -> Result<LinkLocation> {
        let state = self.reading()?;
        Ok(match state.links.get(&(Namespace::Host, veth.container_link.clone())) {
            Some(FakeLink::ContainerEnd(mac)) => LinkLocation::Host(Some(*mac)),
            Some(_) => LinkLocation::Host(None),
            None if state.links.contains_key(&(veth.namespace.clone(), veth.host_link.clone())) => {
                LinkLocation::Container
            }
            None => LinkLocation::Absent,
        })
    }

    fn peek(&self, name: &LinkName) -> Option<(u32, MacAddr)> {
        match self.lock().links.get(&(Namespace::Host, name.clone())) {
            Some(FakeLink::ContainerEnd(mac)) => Some((index_of(*mac), *mac)),
            _ => None,
        }
    }

    fn is_same_link(&self, index: u32, name: &LinkName) -> bool {
        self.peek(name).is_some_and(|(found, _)| found == index)
    }
}

impl Uplinks for Fake {
    fn ensure_uplink(&self, uplink: &UplinkPair) -> Result<bool> {
        let mut state = self.changing()?;
        let inside = Namespace::Named(uplink.namespace.clone());
        ensure!(state.namespaces.contains(&uplink.namespace), "network namespace {inside} does not exist");
        let made = state.links.insert((inside, uplink.inner_link.clone()), FakeLink::Uplink(uplink.host_link.clone()));
        state.links.insert((Namespace::Host, uplink.host_link.clone()), FakeLink::Other);
        state.uplinks.insert(uplink.namespace.clone(), uplink.clone());
        state.not_forwarding.remove(&Namespace::Host);
        state.unrouted.remove(&uplink.namespace);
        let ends =
            [(Namespace::Host, &uplink.host_link), (Namespace::Named(uplink.namespace.clone()), &uplink.inner_link)];
        for (namespace, link) in ends {
            state.down.remove(&(namespace, link.clone()));
        }
        Ok(made.is_none())
    }

    fn route_to_uplink(&self, _uplink: &UplinkPair, _subnet: Subnet) -> Result<()> {
        self.changing().map(drop)
    }

    fn unroute_from_uplink(&self, _uplink: &UplinkPair, _subnet: Subnet) -> Result<()> {
        self.changing().map(drop)
    }

    fn resolvers(&self) -> BTreeSet<IpAddr> {
        BTreeSet::new()
    }

    fn egress_links(&self) -> Result<Vec<LinkName>> {
        let state = self.reading()?;
        let bridges =
            state.links.iter().filter(|((ns, _), link)| *ns == Namespace::Host && matches!(link, FakeLink::Bridge(_)));
        Ok(bridges.map(|((_, name), _)| name.clone()).collect())
    }

    fn host_addresses(&self) -> Result<Vec<(Subnet, IpAddr)>> {
        Ok(self.reading()?.addresses.clone())
    }

    fn link_of(&self, address: IpAddr) -> Result<Option<(LinkName, u32)>> {
        Ok(self.reading()?.links_of.get(&address).cloned())
    }

    fn host_routes(&self) -> Result<Vec<Subnet>> {
        Ok(self.reading()?.routes.iter().copied().collect())
    }
}
