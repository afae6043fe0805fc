// SPDX-License-Identifier: Apache-2.0
//! What the kernel says of networks, VNICs, uplinks and published ports whose records were lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use ciao_common::store::{Owner, Port, Protocol, Uplink, Vnic};
use ciao_common::types::{EndpointId, LinkName, NetworkId, PoolId};

use crate::kernel::state::Seen;
use crate::kernel::{ForwardedPort, Namespace};
use crate::{Driver, alias, names};

/// Namespace, bridge and addresses of a VNIC.
type VnicKey = (Option<String>, LinkName, [Option<IpAddr>; 2]);

/// Gateway and PoolID of a network's subnet.
pub(super) type FoundSubnet = (Option<IpAddr>, Option<PoolId>);

/// What the kernel says.
#[derive(Default)]
pub(super) struct Found {
    /// By the short id of the network.
    subnets: BTreeMap<String, Vec<FoundSubnet>>,
    vnics: BTreeMap<VnicKey, Vnic>,
    /// The links in the host's namespace.
    on_host: BTreeSet<LinkName>,
    /// The namespace of the container that has the other end, by the end on the bridge.
    sandboxes: BTreeMap<LinkName, i32>,
    /// By namespace.
    pub(super) uplinks: BTreeMap<String, Uplink>,
    /// With the host's address and port, by namespace and address of the container.
    ports: BTreeMap<(String, IpAddr), Vec<(ForwardedPort, SocketAddr)>>,
}

impl Found {
    /// The subnets of a network; `None`: it is on no bridge of ours.
    pub(super) fn subnets(&self, network: &NetworkId) -> Option<&[FoundSubnet]> {
        self.subnets.get(network.short()).map(Vec::as_slice)
    }

    /// Launchers' VNICs, those that containers have or the others.
    pub(super) fn launchers(&self, running: bool) -> impl Iterator<Item = &Vnic> {
        let is_running = |vnic: &Vnic| !self.on_host.contains(&vnic.container_link);
        self.vnics.values().filter(move |vnic| vnic.owner == Owner::Launcher && is_running(vnic) == running)
    }

    /// The VNIC with these addresses on a bridge.
    pub(super) fn vnic(
        &self,
        namespace: Option<&str>,
        bridge: &LinkName,
        addresses: [Option<IpAddr>; 2],
    ) -> Option<&Vnic> {
        self.vnics.get(&(namespace.map(str::to_owned), bridge.clone(), addresses))
    }

    /// The published ports that lead to a VNIC, as those of an endpoint.
    pub(super) fn ports(&self, vnic: &Vnic, endpoint: &EndpointId) -> Vec<Port> {
        let Some(namespace) = &vnic.namespace else { return Vec::new() };
        let found = vnic.addresses().filter_map(|address| self.ports.get(&(namespace.clone(), address))).flatten();
        let port = |(port, at): &(ForwardedPort, SocketAddr)| {
            Some(Port {
                protocol: port.protocol,
                host_address: at.ip(),
                host_port: at.port(),
                endpoint: endpoint.clone(),
                namespace: namespace.clone(),
                address: port.to,
                container_port: port.port?,
                inner_port: port.number,
            })
        };
        found.filter_map(port).collect()
    }

    /// Whether published ports lead to a VNIC, or to another one of the same container and tenant.
    pub(super) fn is_published(&self, vnic: &Vnic) -> bool {
        let sandbox = self.sandboxes.get(&vnic.host_link);
        let is_same = |other: &&Vnic| {
            let beside = sandbox.is_some() && self.sandboxes.get(&other.host_link) == sandbox;
            other.namespace == vnic.namespace && (beside || other.id == vnic.id)
        };
        let mut of_container = self.vnics.values().filter(is_same);
        of_container.any(|vnic| {
            let mut places = vnic.addresses().filter_map(|address| Some((vnic.namespace.clone()?, address)));
            places.any(|place| self.ports.contains_key(&place))
        })
    }

    fn add_links(&mut self, namespace: &Namespace, seen: &Seen) {
        for (name, link) in &seen.links {
            let text = link.alias.as_deref().unwrap_or_default();
            match &link.bridge {
                Some(bridge) => {
                    let Some(vnic) = alias::vnic(text, name, namespace.name(), bridge) else { continue };
                    self.sandboxes.extend(link.sandbox.map(|sandbox| (name.clone(), sandbox)));
                    let addresses = [vnic.v4, vnic.v6].map(|place| place.map(|(_, address)| address));
                    self.vnics.insert((vnic.namespace.clone(), bridge.clone(), addresses), vnic);
                }
                None if link.is_bridge && *namespace != Namespace::Host => {
                    for (short, subnet) in alias::subnets(text) {
                        self.subnets.entry(short).or_default().push(subnet);
                    }
                }
                None => {}
            }
        }
    }
}

impl Driver {
    /// Reads all links of ours, and the published ports in the rules.
    pub(super) fn find(&self) -> Result<Found> {
        let (kernel, pool) = (&self.fabric.kernel, self.fabric.uplinks.pool);
        let host = kernel.look(&Namespace::Host)?.unwrap_or_default();
        let mut found = Found { on_host: host.links.keys().cloned().collect(), ..Found::default() };
        found.add_links(&Namespace::Host, &host);
        let mut outer = BTreeMap::<(Protocol, u16, IpAddr), Vec<SocketAddr>>::new();
        for port in kernel.forwarded_ports(&Namespace::Host)? {
            let all: IpAddr =
                if port.to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let at = SocketAddr::new(port.at.unwrap_or(all), port.number);
            // Rules of an older version lead to the same number.
            outer.entry((port.protocol, port.port.unwrap_or(port.number), port.to)).or_default().push(at);
        }
        for name in kernel.namespaces()? {
            let namespace = Namespace::Named(name.clone());
            let Some(seen) = kernel.look(&namespace)? else { continue };
            found.add_links(&namespace, &seen);
            let Some(uplink) = self.find_uplink(&name, &seen, &host) else { continue };
            for port in kernel.forwarded_ports(&namespace)? {
                let inner = pool.inner_address(uplink.number, port.to.is_ipv6());
                let hosts = outer.get(&(port.protocol, port.number, inner)).into_iter().flatten();
                let leading = hosts.map(|at| (port.clone(), *at));
                found.ports.entry((name.clone(), port.to)).or_default().extend(leading);
            }
            found.uplinks.insert(name, uplink);
        }
        Ok(found)
    }

    fn find_uplink(&self, namespace: &str, seen: &Seen, host: &Seen) -> Option<Uplink> {
        let pool = self.fabric.uplinks.pool;
        let mut inner = seen.addresses.iter().filter(|(link, _)| link.as_str() == names::INNER_LINK);
        let (number, outer) = inner.find_map(|(_, address)| pool.pair_of(*address))?;
        let is_outer = |(link, address): &&(LinkName, IpAddr)| *address == outer && names::is_ours(link);
        let (host_link, _) = host.addresses.iter().find(is_outer)?;
        Some(Uplink { namespace: namespace.to_owned(), number, host_link: host_link.clone() })
    }
}
