// SPDX-License-Identifier: Apache-2.0
//! Bridges, VNICs and their addresses, over rtnetlink.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use ciao_common::types::{LinkName, MacAddr, Mtu, Subnet};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::netlink::Netlink;
use super::uplink::has_ipv6;
use super::{Linux, address, announce, message, port};
use crate::kernel::{HostLink, LinkLocation, Links, Namespace, Veth};
use crate::names;

/// Links of these groups are about to be deleted. One of many numbers, so that two batches at a time stay apart; far
/// above those that administrators choose.
const FIRST_GROUP: u32 = 0x6369_0000;
const GROUPS: u32 = 0x1000;

impl Netlink {
    /// A link of the socket's namespace.
    pub(super) fn find(&mut self, name: &LinkName) -> Result<Option<message::Link>> {
        self.find_as(name, message::read)
    }

    /// What `read` makes of a link of the socket's namespace.
    pub(super) fn find_as<T>(
        &mut self,
        name: &LinkName,
        read: impl Fn(&RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.request(message::get(name), 0)? {
            Ok(replies) => Ok(replies.iter().find_map(read)),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(io::Error::from(errno)).with_context(|| format!("look up link {name}")),
        }
    }

    /// A link that must exist.
    pub(super) fn required(&mut self, name: &LinkName) -> Result<message::Link> {
        self.find(name)?.with_context(|| format!("link {name} does not exist"))
    }
}

impl Linux {
    /// A link in the host's namespace.
    fn find_on_host(&self, name: &LinkName) -> Result<Option<message::Link>> {
        self.required(None)?.find(name)
    }

    /// Moves links into one group and deletes the group: the kernel waits for an RCU grace period once for all of them,
    /// some 20 ms, and not once for each. Returns which of the links existed.
    fn delete_together(&self, netlink: &mut Netlink, links: &[&LinkName]) -> Result<Vec<bool>> {
        let group = FIRST_GROUP + self.batch.fetch_add(1, Ordering::Relaxed) % GROUPS;
        let mut found = Vec::new();
        for link in links {
            let marked = netlink.execute_unless(message::set_group(link, group), 0, Errno::ENODEV);
            found.push(marked.with_context(|| format!("mark link {link}"))?);
        }
        if found.contains(&true) {
            netlink.execute_unless(message::delete_group(group), 0, Errno::ENODEV).context("delete links")?;
        }
        Ok(found)
    }
}

/// Whether a bridge is ours.
pub(super) fn is_own(link: &message::Link, namespace: &str, name: &LinkName) -> bool {
    link.is_bridge && link.mac.is_some_and(|mac| names::is_bridge_mac(namespace, name, mac))
}

impl Links for Linux {
    fn host_link(&self, name: &LinkName) -> Result<HostLink> {
        let link = self.find_on_host(name)?;
        Ok(link.map_or(HostLink::Absent, |link| if link.is_bridge { HostLink::Bridge } else { HostLink::Other }))
    }

    fn ensure_bridge(&self, namespace: &str, bridge: &LinkName, mtu: Option<Mtu>) -> Result<bool> {
        let mut netlink = self.required(Some(namespace))?;
        match netlink.find(bridge)? {
            Some(link) if link.is_bridge => {
                if is_own(&link, namespace, bridge) {
                    netlink.execute(message::configure_bridge(link.index), 0).context("configure a bridge")?;
                }
                return Ok(false);
            }
            Some(_) => {
                bail!("{bridge} in network namespace {namespace} is not a bridge: give another --opt bridge")
            }
            None => {}
        }
        let mac = names::bridge_mac(namespace, bridge);
        netlink
            .execute(message::new_bridge(bridge, mac, mtu), NLM_F_CREATE | NLM_F_EXCL)
            .with_context(|| format!("create bridge {bridge} in network namespace {namespace}"))?;
        Ok(true)
    }

    fn is_own_bridge(&self, namespace: &str, link: &LinkName) -> Result<bool> {
        let Some(mut netlink) = self.netlink(Some(namespace))? else { return Ok(false) };
        let found = netlink.find(link)?;
        Ok(found.is_some_and(|found| is_own(&found, namespace, link)))
    }

    fn delete_link(&self, namespace: &Namespace, link: &LinkName) -> Result<()> {
        let Some(mut netlink) = self.netlink(namespace.name())? else { return Ok(()) };
        netlink
            .execute_unless(message::delete(link), 0, Errno::ENODEV)
            .map(drop)
            .with_context(|| format!("delete link {link} in network namespace {namespace}"))
    }

    fn add_address(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<()> {
        let mut netlink = self.required(Some(namespace))?;
        let link = netlink.required(bridge)?;
        if address.is_ipv6() && !has_ipv6() {
            log::warn!(
                "the kernel has no IPv6 (ipv6.disable=1): gateway address {address} of bridge {bridge} is omitted"
            );
            return Ok(());
        }
        let message = RouteNetlinkMessage::NewAddress(address::new(link.index, subnet, address));
        netlink
            .execute_unless(message, NLM_F_CREATE | NLM_F_EXCL, Errno::EEXIST)
            .map(drop)
            .with_context(|| format!("add gateway address {address} to bridge {bridge}"))
    }

    fn remove_address(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<()> {
        let Some(mut netlink) = self.netlink(Some(namespace))? else { return Ok(()) };
        let Some(link) = netlink.find(bridge)? else { return Ok(()) };
        let message = RouteNetlinkMessage::DelAddress(address::new(link.index, subnet, address));
        netlink
            .execute_unless(message, 0, Errno::EADDRNOTAVAIL)
            .map(drop)
            .with_context(|| format!("remove gateway address {address} from bridge {bridge}"))
    }

    fn create_veth(&self, veth: &Veth) -> Result<()> {
        let mut netlink = self.required(veth.namespace.name())?;
        self.within(veth.namespace.name(), || port::create(&mut netlink, veth, self.host.as_fd()))
    }

    fn attach(&self, veth: &Veth) -> Result<()> {
        let mut netlink = self.required(veth.namespace.name())?;
        self.within(veth.namespace.name(), || port::attach(&mut netlink, veth))
    }

    fn set_rate(&self, veth: &Veth) -> Result<()> {
        let mut netlink = self.required(veth.namespace.name())?;
        self.within(veth.namespace.name(), || port::set_rate(&mut netlink, veth))
    }

    fn announce(&self, namespace: &str, bridge: &LinkName, entries: &[(IpAddr, MacAddr)]) -> Result<()> {
        self.within(Some(namespace), || announce::send(bridge, entries))
    }

    fn forget_neighbours(&self, namespace: &str, bridge: &LinkName, addresses: &[IpAddr]) -> Result<()> {
        let mut netlink = self.required(Some(namespace))?;
        self.within(Some(namespace), || port::forget_neighbours(&mut netlink, bridge, addresses))
    }

    fn addresses(&self, namespace: &str) -> Result<Vec<(LinkName, Subnet, IpAddr)>> {
        let Some(mut netlink) = self.netlink(Some(namespace))? else { return Ok(Vec::new()) };
        let links = netlink.dump(message::get_all(), message::read).context("list links")?;
        let addresses = netlink.dump(address::get_all(), address::read_address).context("list addresses")?;
        let named = addresses.into_iter().filter_map(|(index, prefix, address)| {
            let link = links.iter().find(|link| link.index == index)?;
            Some((link.name.parse().ok()?, Subnet::new(address, prefix).ok()?, address))
        });
        Ok(named.filter(|(_, _, address)| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())).collect())
    }

    fn set_alias(&self, namespace: &Namespace, link: &LinkName, alias: &str) -> Result<()> {
        let Some(mut netlink) = self.netlink(namespace.name())? else { return Ok(()) };
        let Some(found) = netlink.find(link)? else { return Ok(()) };
        if found.alias.as_deref() == Some(alias) {
            return Ok(());
        }
        netlink
            .execute(message::set_alias(found.index, alias), 0)
            .with_context(|| format!("set the alias of link {link}"))
    }

    fn set_up(&self, namespace: &str, link: &LinkName) -> Result<()> {
        let mut netlink = self.required(Some(namespace))?;
        let index = netlink.required(link)?.index;
        netlink.execute(message::set_up(index), 0).with_context(|| format!("set link {link} up"))
    }

    fn set_down(&self, namespace: &Namespace, links: &[LinkName]) -> Result<()> {
        let Some(mut netlink) = self.netlink(namespace.name())? else { return Ok(()) };
        let mut failed = Ok(());
        for link in links {
            let set = netlink.execute_unless(message::set_down(link), 0, Errno::ENODEV);
            if let Err(error) = set {
                failed = Err(error).with_context(|| format!("set link {link} down"));
            }
        }
        failed
    }

    fn delete_veths(&self, veths: &[Veth]) -> Result<()> {
        let ends: Vec<_> = veths.iter().map(|veth| &veth.container_link).collect();
        let found = self.delete_together(&mut *self.required(None)?, &ends)?;
        // The container's end may still be inside a container: then deleting the other end removes it.
        let inside = veths.iter().zip(found).filter(|(_, found)| !found);
        inside.map(|(veth, _)| self.delete_link(&veth.namespace, &veth.host_link)).fold(Ok(()), Result::and)
    }

    fn locate(&self, veth: &Veth) -> Result<LinkLocation> {
        if let Some(link) = self.find_on_host(&veth.container_link)? {
            return Ok(LinkLocation::Host(link.mac));
        }
        let Some(mut netlink) = self.netlink(veth.namespace.name())? else { return Ok(LinkLocation::Absent) };
        Ok(netlink.find(&veth.host_link)?.map_or(LinkLocation::Absent, |_| LinkLocation::Container))
    }

    fn peek(&self, name: &LinkName) -> Option<(u32, MacAddr)> {
        // A netlink request would take the RTNL lock, which deleting links holds for some 20 ms.
        let mut file = File::open(format!("/sys/devices/virtual/net/{name}/address")).ok()?;
        let mut text = [0; 32];
        let length = file.read(&mut text).ok()?;
        let mac = std::str::from_utf8(&text[..length]).ok()?.trim_end().parse().ok()?;
        Some((if_nametoindex(name.as_str()).ok()?, mac))
    }

    fn is_same_link(&self, index: u32, name: &LinkName) -> bool {
        if_indextoname(index).is_ok_and(|found| found.as_bytes() == name.as_str().as_bytes())
    }

    fn links(&self, namespace: &Namespace) -> Result<Vec<LinkName>> {
        let Some(mut netlink) = self.netlink(namespace.name())? else { return Ok(Vec::new()) };
        let name = |reply: &RouteNetlinkMessage| message::read(reply)?.name.parse().ok();
        netlink.dump(message::get_all(), name).context("list links")
    }
}
