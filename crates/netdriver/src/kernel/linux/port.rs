// SPDX-License-Identifier: Apache-2.0
//! A VNIC's port of its bridge: nothing is learned there, because everything is known.
//!
//! A bridge handles frames to its reserved groups (01:80:c2:00:00:0X) before any rule of nftables sees them, and learns
//! their source. So a port whose VNIC is filtered does not learn, and gets no unicast that its bridge does not know.
//! The VNIC's MAC address is a static entry of the forwarding database, sticky, so that no other port takes it; its
//! addresses are permanent neighbours of the bridge, which need no room in the kernel's one table for all.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use ciao_common::types::LinkName;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use super::netlink::Netlink;
use super::{message, neighbour, rate};
use crate::kernel::{Namespace, Veth};

/// Creates a VNIC's pair in the calling thread's namespace, which is the bridge's and the socket's, or nothing.
pub(super) fn create(netlink: &mut Netlink, veth: &Veth, host: BorrowedFd<'_>) -> Result<()> {
    // An index costs a microsecond; the bridge's whole description, 40.
    let bridge = index(&veth.bridge)
        .with_context(|| format!("bridge {} in network namespace {} does not exist", veth.bridge, veth.namespace))?;
    let message = message::new_veth((&veth.host_link, bridge), (&veth.container_link, veth.mac), veth.mtu, host);
    netlink
        .execute(message, NLM_F_CREATE | NLM_F_EXCL)
        .with_context(|| format!("create link {} on bridge {}", veth.container_link, veth.bridge))?;
    let configured = configure(netlink, veth, bridge).and_then(|()| limit(netlink, veth));
    if configured.is_err() {
        netlink.execute_unless(message::delete(&veth.host_link), 0, Errno::ENODEV)?;
    }
    configured
}

/// Makes the host end of a VNIC a port of its bridge again. One of them missing: nothing to do.
pub(super) fn attach(netlink: &mut Netlink, veth: &Veth) -> Result<()> {
    let Some(bridge) = index(&veth.bridge) else { return Ok(()) };
    let attached = netlink
        .execute_unless(message::set_controller(&veth.host_link, bridge), 0, Errno::ENODEV)
        .with_context(|| format!("add link {} to bridge {}", veth.host_link, veth.bridge))?;
    if attached { configure(netlink, veth, bridge) } else { Ok(()) }
}

/// Writes a VNIC's alias, settings and static entries. On bridges of the host the alias alone: they are not ciao-net's
/// to configure.
fn configure(netlink: &mut Netlink, veth: &Veth, bridge: u32) -> Result<()> {
    let port = index(&veth.host_link).with_context(|| format!("link {} does not exist", veth.host_link))?;
    let replace = NLM_F_CREATE | NLM_F_REPLACE;
    let mut requests = vec![(message::set_alias(port, &veth.alias), 0)];
    if veth.namespace != Namespace::Host {
        requests.push((message::port_learning(port, veth.learns), 0));
        requests.push((RouteNetlinkMessage::NewNeighbour(neighbour::forwarding(port, veth.mac)), replace));
        let entries = veth.addresses.iter().map(|address| neighbour::permanent(bridge, *address, veth.mac));
        requests.extend(entries.map(|entry| (RouteNetlinkMessage::NewNeighbour(entry), replace)));
    }
    netlink
        .execute_all(requests, None)
        .with_context(|| format!("configure link {} on bridge {}", veth.host_link, veth.bridge))
}

/// Limits what a VNIC receives, if it has a rate.
fn limit(netlink: &mut Netlink, veth: &Veth) -> Result<()> {
    let Some(rate) = veth.rate else { return Ok(()) };
    let port = index(&veth.host_link).with_context(|| format!("link {} does not exist", veth.host_link))?;
    netlink
        .execute(rate::new_filter(port, rate), NLM_F_CREATE | NLM_F_REPLACE)
        .with_context(|| format!("limit link {} to {rate}", veth.container_link))
}

/// Limits what an existing VNIC receives to its rate, or no longer; a VNIC that is gone has no limit.
pub(super) fn set_rate(netlink: &mut Netlink, veth: &Veth) -> Result<()> {
    let Some(port) = index(&veth.host_link) else { return Ok(()) };
    if veth.rate.is_some() {
        return limit(netlink, veth);
    }
    let removed = netlink.execute_unless(rate::no_filter(port), 0, Errno::ENOENT);
    removed.map(drop).with_context(|| format!("remove the rate limit of link {}", veth.container_link))
}

/// Removes permanent neighbours of a bridge in the calling thread's namespace.
pub(super) fn forget_neighbours(netlink: &mut Netlink, bridge: &LinkName, addresses: &[IpAddr]) -> Result<()> {
    let Some(bridge) = index(bridge) else { return Ok(()) };
    for address in addresses {
        let entry = RouteNetlinkMessage::DelNeighbour(neighbour::destination(bridge, *address));
        netlink.execute_unless(entry, 0, Errno::ENOENT).with_context(|| format!("remove neighbour {address}"))?;
    }
    Ok(())
}

fn index(link: &LinkName) -> Option<u32> {
    if_nametoindex(link.as_str()).ok()
}
