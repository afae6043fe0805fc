//! A namespace's way to the host: links, addresses, routes, forwarding.

use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ciao_common::types::{LinkName, Subnet};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteMessage;
use nix::errno::Errno;

use super::netlink::Netlink;
use super::{Linux, find, ignore, message, port};
use crate::kernel::{Namespace, UplinkPair};

/// The host's and the namespace's address of a pair.
fn ends(pair: Subnet) -> (IpAddr, IpAddr) {
    let (family, range) = (pair.family(), pair.range());
    (family.address(range.first), family.address(range.last))
}

/// Makes the uplink, if it is not there. `true`: made.
pub(super) fn ensure(linux: &Linux, uplink: &UplinkPair) -> Result<bool> {
    let mut inside = linux.required(&Namespace::Named(uplink.namespace.clone()))?;
    let mut host = Netlink::open()?;
    let there = find(&mut host, &uplink.host_link)?.is_some() && find(&mut inside, &uplink.inner_link)?.is_some();
    if !there {
        // One end alone is never left, but a crash may have left a pair half configured.
        ignore(host.ask(message::delete(&uplink.host_link), 0)?, &[Errno::ENODEV])?;
        ignore(inside.ask(message::delete(&uplink.inner_link), 0)?, &[Errno::ENODEV])?;
        let message = message::new_uplink(&uplink.inner_link, &uplink.host_link, linux.host().as_fd());
        inside.tell(message, NLM_F_CREATE | NLM_F_EXCL).context("create uplink")?;
    }
    forward(&uplink.host_link, uplink.pairs.iter().any(|pair| pair.network().is_ipv6()))?;
    configure(&mut host, &uplink.host_link, &uplink.pairs, |pair| ends(pair).0).context("configure uplink")?;
    let index =
        configure(&mut inside, &uplink.inner_link, &uplink.pairs, |pair| ends(pair).1).context("configure uplink")?;
    introduce(&mut host, &uplink.host_link, &mut inside, &uplink.inner_link, &uplink.pairs)?;
    for pair in &uplink.pairs {
        let route = RouteNetlinkMessage::NewRoute(message::default_route(index, ends(*pair).0));
        ignore(inside.ask(route, NLM_F_CREATE | NLM_F_EXCL)?, &[Errno::EEXIST]).context("route to the host")?;
    }
    Ok(!there)
}

/// Leads a subnet from the host to the uplink's namespace.
pub(super) fn route(uplink: &UplinkPair, subnet: Subnet) -> Result<()> {
    let mut host = Netlink::open()?;
    let route =
        route_of(&mut host, uplink, subnet)?.with_context(|| format!("link {} is not there", uplink.host_link))?;
    ignore(host.ask(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL)?, &[Errno::EEXIST])
        .map(drop)
        .with_context(|| format!("route {subnet} to its tenant: does the host route it elsewhere?"))
}

/// Leads it there no more.
pub(super) fn unroute(uplink: &UplinkPair, subnet: Subnet) -> Result<()> {
    let mut host = Netlink::open()?;
    let Some(route) = route_of(&mut host, uplink, subnet)? else { return Ok(()) };
    ignore(host.ask(RouteNetlinkMessage::DelRoute(route), 0)?, &[Errno::ESRCH])
        .map(drop)
        .with_context(|| format!("route {subnet} to its tenant no more"))
}

/// The route to a subnet by an uplink; `None` if the uplink's link is gone, and its routes with it.
fn route_of(host: &mut Netlink, uplink: &UplinkPair, subnet: Subnet) -> Result<Option<RouteMessage>> {
    let Some(link) = find(host, &uplink.host_link)? else { return Ok(None) };
    let mut pairs = uplink.pairs.iter().copied();
    let pair = pairs.find(|pair| pair.family() == subnet.family()).context("no uplink address of its family")?;
    Ok(Some(message::route_to(link.index, subnet, ends(pair).1)))
}

/// A link up with its addresses. Answers its index.
fn configure(netlink: &mut Netlink, link: &LinkName, pairs: &[Subnet], end: impl Fn(Subnet) -> IpAddr) -> Result<u32> {
    let index = find(netlink, link)?.with_context(|| format!("link {link} is not there"))?.index;
    netlink.tell(message::set_up(index), 0)?;
    for pair in pairs {
        let message = RouteNetlinkMessage::NewAddress(message::address(index, *pair, end(*pair)));
        ignore(netlink.ask(message, NLM_F_CREATE | NLM_F_EXCL)?, &[Errno::EEXIST])?;
    }
    Ok(index)
}

/// Makes each end of an uplink the other's permanent neighbour: the kernel's one table for all tenants may be full.
fn introduce(
    host: &mut Netlink,
    host_link: &LinkName,
    inside: &mut Netlink,
    inner_link: &LinkName,
    pairs: &[Subnet],
) -> Result<()> {
    let gone = |link| format!("link {link} is not there");
    let outer = find(host, host_link)?.with_context(|| gone(host_link))?;
    let inner = find(inside, inner_link)?.with_context(|| gone(inner_link))?;
    let (Some(outer_mac), Some(inner_mac)) = (outer.mac, inner.mac) else { bail!("an uplink has no MAC address") };
    let entry = |link, address, mac| {
        let entry = port::neighbour(link, address, mac);
        (RouteNetlinkMessage::NewNeighbour(entry), NLM_F_CREATE | NLM_F_REPLACE)
    };
    let ends = || pairs.iter().map(|pair| ends(*pair));
    host.tell_all(ends().map(|(_, address)| entry(outer.index, address, inner_mac)).collect())
        .and_then(|()| inside.tell_all(ends().map(|(address, _)| entry(inner.index, address, outer_mac)).collect()))
        .context("make the ends of an uplink neighbours")
}

/// Switches forwarding on, where it is off, and says so; and lets 127.0.0.1 be answered by a published port.
fn forward(host_link: &LinkName, v6: bool) -> Result<()> {
    switch_on("net/ipv4/ip_forward", true)?;
    if v6 {
        switch_on("net/ipv6/conf/all/forwarding", true)?;
    }
    switch_on(&format!("net/ipv4/conf/{host_link}/route_localnet"), false)
}

fn switch_on(key: &str, say: bool) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    // A kernel without IPv6 has no such file.
    let Ok(value) = fs::read_to_string(&path) else { return Ok(()) };
    if value.trim() != "0" {
        return Ok(());
    }
    if say {
        log::info!("{} was 0: set to 1, because networks with egress=nat need it", path.display());
    }
    fs::write(&path, "1").with_context(|| format!("set {} to 1", path.display()))
}
