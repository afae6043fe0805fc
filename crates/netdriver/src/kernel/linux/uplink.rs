// SPDX-License-Identifier: Apache-2.0
//! Namespaces' uplinks to the host: links, addresses, routes.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ciao_common::types::{LinkName, MacAddr, Subnet};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteMessage;
use nix::errno::Errno;

use super::netlink::Netlink;
use super::{Linux, address, egress, message, neighbour, resolvers};
use crate::kernel::uplink::ends;
use crate::kernel::{UplinkPair, Uplinks};

/// Whether the kernel was started with IPv6 (without `ipv6.disable=1`).
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

impl Uplinks for Linux {
    fn ensure_uplink(&self, uplink: &UplinkPair) -> Result<bool> {
        let mut inside = self.required(Some(&uplink.namespace))?;
        let mut host = Netlink::open()?;
        let exists = host.find(&uplink.host_link)?.is_some() && inside.find(&uplink.inner_link)?.is_some();
        if !exists {
            // One end alone never exists, but a crash may have left a pair half configured.
            host.execute_unless(message::delete(&uplink.host_link), 0, Errno::ENODEV)?;
            inside.execute_unless(message::delete(&uplink.inner_link), 0, Errno::ENODEV)?;
            let mac = |end: &LinkName| MacAddr::hashed(format!("{}/{end}", uplink.host_link).as_bytes());
            let end = |link| (link, mac(link));
            let message = message::new_uplink(end(&uplink.inner_link), end(&uplink.host_link), self.host.as_fd());
            inside.execute(message, NLM_F_CREATE | NLM_F_EXCL).context("create uplink")?;
        }
        // A published port answers on 127.0.0.1.
        set("ipv4", &uplink.host_link, "route_localnet", "1")?;
        // A tenant is no router of the host's, and has IPv6 where the host's own links have none.
        set("ipv6", &uplink.host_link, "accept_ra", "0")?;
        set("ipv6", &uplink.host_link, "disable_ipv6", "0")?;
        // A kernel without IPv6 has IPv4 alone.
        let pairs: Vec<_> =
            uplink.pairs.iter().copied().filter(|pair| pair.network().is_ipv4() || has_ipv6()).collect();
        configure(&mut host, &uplink.host_link, &pairs, |pair| ends(pair).0)?;
        let index = configure(&mut inside, &uplink.inner_link, &pairs, |pair| ends(pair).1)?;
        introduce(&mut host, &mut inside, uplink, &pairs)?;
        for pair in &pairs {
            let route = RouteNetlinkMessage::NewRoute(address::default_route(index, ends(*pair).0));
            inside.execute_unless(route, NLM_F_CREATE | NLM_F_EXCL, Errno::EEXIST).context("route to the host")?;
        }
        Ok(!exists)
    }

    fn route_to_uplink(&self, uplink: &UplinkPair, subnet: Subnet) -> Result<()> {
        let mut host = Netlink::open()?;
        let route = route_of(&mut host, uplink, subnet)?
            .with_context(|| format!("link {} does not exist", uplink.host_link))?;
        host.execute_unless(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL, Errno::EEXIST)
            .map(drop)
            .with_context(|| format!("route {subnet} to its tenant: does the host route it elsewhere?"))
    }

    fn unroute_from_uplink(&self, uplink: &UplinkPair, subnet: Subnet) -> Result<()> {
        let mut host = Netlink::open()?;
        let Some(route) = route_of(&mut host, uplink, subnet)? else { return Ok(()) };
        host.execute_unless(RouteNetlinkMessage::DelRoute(route), 0, Errno::ESRCH)
            .map(drop)
            .with_context(|| format!("remove the route of {subnet} to its tenant"))
    }

    fn egress_links(&self) -> Result<Vec<LinkName>> {
        egress::links()
    }

    fn resolvers(&self) -> BTreeSet<IpAddr> {
        resolvers::read(Path::new("/"))
    }

    fn host_addresses(&self) -> Result<Vec<(Subnet, IpAddr)>> {
        let found = Netlink::open()?.dump(address::get_all(), address::read_address).context("list addresses")?;
        found.into_iter().map(|(_, prefix, address)| Ok((Subnet::new(address, prefix)?, address))).collect()
    }

    fn link_of(&self, address: IpAddr) -> Result<Option<(LinkName, u32)>> {
        let mut host = Netlink::open()?;
        let addresses = host.dump(address::get_all(), address::read_address).context("list addresses")?;
        let Some((index, ..)) = addresses.into_iter().find(|(.., found)| *found == address) else { return Ok(None) };
        let link = |reply: &RouteNetlinkMessage| message::read_mtu(reply, index);
        Ok(host.dump(message::get_all(), link).context("list links")?.pop())
    }

    fn host_routes(&self) -> Result<Vec<Subnet>> {
        let found = Netlink::open()?.dump(address::get_routes(), address::read_route).context("list routes")?;
        Ok(largest(found, MOST_ROUTES))
    }
}

/// How many of the host's routes are recorded. One with the routes of the whole Internet has a million.
const MOST_ROUTES: usize = 4096;

/// The largest `most` of subnets, without those that lie in others.
fn largest(mut subnets: Vec<Subnet>, most: usize) -> Vec<Subnet> {
    subnets.sort_by_key(|subnet| (subnet.prefix(), subnet.network()));
    subnets.dedup();
    subnets.truncate(most);
    let all: BTreeSet<_> = subnets.iter().copied().collect();
    let above = |subnet: &Subnet, prefix| Subnet::new(subnet.network(), prefix).is_ok_and(|above| all.contains(&above));
    subnets.retain(|subnet| !(1..subnet.prefix()).any(|prefix| above(subnet, prefix)));
    subnets
}

/// The route to a subnet by an uplink; `None` if the uplink's link does not exist, and so no route by it.
fn route_of(host: &mut Netlink, uplink: &UplinkPair, subnet: Subnet) -> Result<Option<RouteMessage>> {
    let Some(link) = host.find(&uplink.host_link)? else { return Ok(None) };
    let mut pairs = uplink.pairs.iter().copied();
    let pair = pairs.find(|pair| pair.family() == subnet.family()).context("no uplink address of its family")?;
    Ok(Some(address::route_to(link.index, subnet, ends(pair).1)))
}

/// Sets a link up, with its addresses. Returns its index.
fn configure(netlink: &mut Netlink, link: &LinkName, pairs: &[Subnet], end: impl Fn(Subnet) -> IpAddr) -> Result<u32> {
    let index = netlink.required(link).context("configure uplink")?.index;
    netlink.execute(message::set_up(index), 0).context("set uplink up")?;
    for pair in pairs {
        let message = RouteNetlinkMessage::NewAddress(address::new(index, *pair, end(*pair)));
        netlink
            .execute_unless(message, NLM_F_CREATE | NLM_F_EXCL, Errno::EEXIST)
            .with_context(|| format!("add address {} to uplink {link}", end(*pair)))?;
    }
    Ok(index)
}

/// Makes each end of an uplink the other's permanent neighbour: the kernel's one table for all tenants may be full.
fn introduce(host: &mut Netlink, inside: &mut Netlink, uplink: &UplinkPair, pairs: &[Subnet]) -> Result<()> {
    let (outer, inner) = (host.required(&uplink.host_link)?, inside.required(&uplink.inner_link)?);
    let (Some(outer_mac), Some(inner_mac)) = (outer.mac, inner.mac) else { bail!("an uplink has no MAC address") };
    let entry = |link, address, mac| {
        let entry = neighbour::permanent(link, address, mac);
        (RouteNetlinkMessage::NewNeighbour(entry), NLM_F_CREATE | NLM_F_REPLACE)
    };
    let ends = || pairs.iter().map(|pair| ends(*pair));
    host.execute_all(ends().map(|(_, address)| entry(outer.index, address, inner_mac)).collect(), None)
        .and_then(|()| {
            inside.execute_all(ends().map(|(address, _)| entry(inner.index, address, outer_mac)).collect(), None)
        })
        .context("add an uplink's neighbour entries")
}

/// Sets a sysctl of a link in the host's namespace. A kernel without IPv6 has none of IPv6's.
fn set(family: &str, link: &LinkName, key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net").join(family).join("conf").join(link.as_str()).join(key);
    match fs::read_to_string(&path) {
        Ok(found) if found.trim() != value => {
            fs::write(&path, value).with_context(|| format!("set {} to {value}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_within_another_one_and_the_smallest_of_too_many_are_left_out() {
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Subnet>>();
        let found = of(&["10.1.0.0/16", "172.17.0.0/16", "fd00::/8", "10.0.0.0/8", "10.0.0.0/8", "192.0.2.7/32"]);
        assert_eq!(largest(found.clone(), 9), of(&["10.0.0.0/8", "fd00::/8", "172.17.0.0/16", "192.0.2.7/32"]));
        assert_eq!(largest(found, 2), of(&["10.0.0.0/8", "fd00::/8"]));
    }
}
