// SPDX-License-Identifier: Apache-2.0
//! Namespaces' uplinks to the host.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use ciao_common::types::{LinkName, Subnet};

/// A namespace's uplink: a veth pair, the host's end in the host's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkPair {
    /// The tenant that owns it.
    pub namespace: String,
    /// The host's end.
    pub host_link: LinkName,
    /// The namespace's end.
    pub inner_link: LinkName,
    /// Subnets of two addresses, the host's first: IPv4 (/31), and IPv6 (/127) if a network there has it.
    pub pairs: Vec<Subnet>,
}

impl UplinkPair {
    /// The addresses of the host's end and of the namespace's, pair by pair.
    pub fn ends(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        self.pairs.iter().copied().map(ends)
    }
}

/// The host's and the namespace's address of a pair.
pub(crate) fn ends(pair: Subnet) -> (IpAddr, IpAddr) {
    let (family, range) = (pair.family(), pair.range());
    (family.address(range.first), family.address(range.last))
}

/// Namespaces' uplinks to the host.
pub trait Uplinks {
    /// Makes a namespace's uplink: a pair of links with addresses, the namespace's default routes, and forwarding on
    /// the host. There already: nothing to do. `true`: made.
    fn ensure_uplink(&self, uplink: &UplinkPair) -> Result<bool>;

    /// Routes an IPv6 subnet of a namespace from the host to it. Routed there already: nothing to do.
    fn route_to_uplink(&self, uplink: &UplinkPair, subnet: Subnet) -> Result<()>;

    /// Removes the route of [`Self::route_to_uplink`]. Absent: nothing to do.
    fn unroute_from_uplink(&self, uplink: &UplinkPair, subnet: Subnet) -> Result<()>;

    /// The links by which traffic leaves the host, of those kinds that its own containers and machines have too.
    fn egress_links(&self) -> Result<Vec<LinkName>>;

    /// The resolvers that dockerd gives to containers, without those that only the host itself reaches.
    fn resolvers(&self) -> BTreeSet<IpAddr>;

    /// The addresses of the host's own links, and the subnets that they are in.
    fn host_addresses(&self) -> Result<Vec<(Subnet, IpAddr)>>;

    /// The host's link that has an address, and its MTU in bytes; `None`: there is none.
    fn link_of(&self, address: IpAddr) -> Result<Option<(LinkName, u32)>>;

    /// The subnets that the host's main table routes, without defaults and link-local ones: no engine takes one of
    /// these for a network. None lies in another one; of very many, the largest.
    fn host_routes(&self) -> Result<Vec<Subnet>>;
}
