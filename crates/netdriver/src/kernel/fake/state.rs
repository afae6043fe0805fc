// SPDX-License-Identifier: Apache-2.0
//! What exists in the double.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ciao_common::types::{LinkName, MacAddr, Subnet};

use crate::kernel::tunnel::{Underlay, VxlanLink};
use crate::kernel::{FirewallOpening, Namespace, UplinkPair, Veth};

/// A link of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FakeLink {
    /// A bridge with its gateway addresses.
    Bridge(BTreeSet<IpAddr>),
    /// The host end of a VNIC, on a bridge, and its peer's name.
    HostEnd(LinkName, LinkName),
    /// The container end of a VNIC.
    ContainerEnd(MacAddr),
    /// A namespace's end of its uplink, and the host end's name.
    Uplink(LinkName),
    /// A tunnel on a bridge.
    Vxlan(Box<VxlanLink>),
    /// Something else.
    Other,
}

/// All that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// By namespace and name.
    pub links: BTreeMap<(Namespace, LinkName), FakeLink>,
    /// Those of ciao.
    pub namespaces: BTreeSet<String>,
    /// Where ciao's rules are, and the elements in their sets, as lines of nft's language that add them.
    pub rules: BTreeMap<Namespace, BTreeSet<String>>,
    /// What the host's firewall accepts.
    pub openings: BTreeSet<FirewallOpening>,
    /// The permanent neighbours of bridges: namespace, bridge and address.
    pub neighbours: BTreeMap<(String, LinkName, IpAddr), MacAddr>,
    /// Links of the host that tunnels may leave by.
    pub underlays: BTreeMap<LinkName, Underlay>,
    /// Other hosts that tunnels lead to.
    pub tunnel_hosts: BTreeMap<u32, IpAddr>,
    /// The rules of tunnels on the host: the tables, and a line for each element.
    pub tunnel_rules: BTreeSet<String>,
    /// The largest packet between hosts; `None`: any.
    pub carried: Option<u32>,
    /// Hosts that answer no echo request.
    pub silent: BTreeSet<IpAddr>,
    /// The host's own addresses.
    pub addresses: Vec<(Subnet, IpAddr)>,
    /// The links that have these, with their MTU, where a test says so.
    pub links_of: BTreeMap<IpAddr, (LinkName, u32)>,
    /// The aliases of links.
    pub aliases: BTreeMap<(Namespace, LinkName), String>,
    /// Links that are not up.
    pub down: BTreeSet<(Namespace, LinkName)>,
    /// Uplinks, by tenants' namespaces.
    pub uplinks: BTreeMap<String, UplinkPair>,
    /// Tenants' namespaces without default route.
    pub unrouted: BTreeSet<String>,
    /// What the host routes.
    pub routes: BTreeSet<Subnet>,
    /// Where forwarding is switched off.
    pub not_forwarding: BTreeSet<Namespace>,
}

impl State {
    pub(super) fn add_neighbours(&mut self, veth: &Veth) {
        let Some(namespace) = veth.namespace.name() else { return };
        for address in &veth.addresses {
            self.neighbours.insert((namespace.to_owned(), veth.bridge.clone(), *address), veth.mac);
        }
    }

    /// Removes a link and its peer.
    pub(super) fn remove(&mut self, namespace: &Namespace, link: &LinkName) {
        let removed = self.links.remove(&(namespace.clone(), link.clone()));
        match removed {
            Some(FakeLink::HostEnd(_, peer) | FakeLink::Uplink(peer)) => {
                self.links.retain(|(_, name), _| *name != peer);
            }
            Some(FakeLink::Bridge(_)) => {
                self.neighbours
                    .retain(|(inside, bridge, _), _| Some(inside.as_str()) != namespace.name() || bridge != link);
            }
            Some(FakeLink::ContainerEnd(_)) => {
                self.links.retain(|_, other| !matches!(other, FakeLink::HostEnd(_, peer) if peer == link));
            }
            Some(FakeLink::Vxlan(_)) | None => {}
            Some(FakeLink::Other) => {
                self.links.retain(|_, other| !matches!(other, FakeLink::Uplink(peer) if peer == link));
            }
        }
        let Self { links, down, uplinks, aliases, .. } = self;
        aliases.retain(|place, _| links.contains_key(place));
        down.retain(|place| links.contains_key(place));
        uplinks.retain(|_, uplink| links.contains_key(&(Namespace::Host, uplink.host_link.clone())));
    }
}
