//! The trait's operations on the running kernel, over netlink.

mod egress;
mod firewall;
mod message;
mod namespace;
mod netlink;
mod nft;
mod port;
mod rate;
mod uplink;

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use ciao_common::types::{LinkName, MacAddr, Mtu, Subnet};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::net::if_::{if_indextoname, if_nametoindex};

use crate::kernel::element::{self, Change, Element};
use crate::kernel::{HostLink, Kernel, Namespace, Passage, Place, UplinkPair, Veth};
use crate::names;
use message::Link;
use netlink::Netlink;
use nft::{command, elements as nft_elements};

/// Links of these groups are about to be deleted. One of many numbers, so that two batches at a time stay apart; far
/// above those that people choose.
const FIRST_GROUP: u32 = 0x6369_0000;
const GROUPS: u32 = 0x1000;

/// The running kernel.
pub struct Linux {
    host: File,
    batch: AtomicU32,
    /// Idle sockets in the host's namespace, which every `Join` asks.
    host_sockets: Mutex<Vec<Netlink>>,
}

impl Linux {
    /// The kernel, seen from the process's network namespace, which is the host's.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn new() -> Result<Self> {
        Ok(Self { host: namespace::of_host()?, batch: AtomicU32::new(0), host_sockets: Mutex::default() })
    }

    /// A netlink socket in a namespace; `None` if the namespace is not there.
    fn netlink(&self, namespace: &Namespace) -> Result<Option<Netlink>> {
        let Some(name) = namespace.name() else {
            return Netlink::open().map(Some);
        };
        match namespace::open(name)? {
            Some(file) => namespace::enter(&file, &self.host, Netlink::open).map(Some),
            None => Ok(None),
        }
    }

    /// A named namespace that must be there; `None` for the host's.
    fn file(&self, namespace: &Namespace) -> Result<Option<File>> {
        let Some(name) = namespace.name() else { return Ok(None) };
        let file = namespace::open(name)?;
        file.map(Some).with_context(|| format!("network namespace {name} is not there"))
    }

    /// Runs `action` with the calling thread in a namespace that must be there.
    fn within<T>(&self, namespace: &Namespace, action: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.file(namespace)? {
            Some(file) => namespace::enter(&file, &self.host, action),
            None => action(),
        }
    }

    fn host(&self) -> &File {
        &self.host
    }

    fn required(&self, namespace: &Namespace) -> Result<Netlink> {
        self.netlink(namespace)?.with_context(|| format!("network namespace {namespace} is not there"))
    }

    /// A link in the host's namespace.
    fn find_on_host(&self, name: &LinkName) -> Result<Option<Link>> {
        let idle = self.host_sockets.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut netlink = idle.map_or_else(Netlink::open, Ok)?;
        // After an error the conversation may be out of step: the socket is not used again.
        let found = find(&mut netlink, name)?;
        self.host_sockets.lock().unwrap_or_else(PoisonError::into_inner).push(netlink);
        Ok(found)
    }

    /// Moves links into one group and removes the group: the kernel waits for its readers once for all of them, some
    /// 20 ms, and not once for each. Links that are not there are passed over.
    fn delete_together(&self, netlink: &mut Netlink, links: &[&LinkName]) -> Result<Vec<bool>> {
        let group = FIRST_GROUP + self.batch.fetch_add(1, Ordering::Relaxed) % GROUPS;
        let mut found = Vec::new();
        for link in links {
            found.push(match netlink.ask(message::set_group(link, group), 0)? {
                Ok(_) => true,
                Err(Errno::ENODEV) => false,
                Err(errno) => return Err(io::Error::from(errno)).with_context(|| format!("mark link {link}")),
            });
        }
        if found.contains(&true) {
            ignore(netlink.ask(message::delete_group(group), 0)?, &[Errno::ENODEV]).context("delete links")?;
        }
        Ok(found)
    }
}

/// A bridge's MAC address, which so does not change with its ports, and shows whose bridge it is.
fn bridge_mac(namespace: &str, bridge: &LinkName) -> MacAddr {
    MacAddr::hashed(format!("{namespace}/{bridge}").as_bytes())
}

fn find(netlink: &mut Netlink, name: &LinkName) -> Result<Option<Link>> {
    match netlink.ask(message::get(name), 0)? {
        Ok(replies) => Ok(replies.iter().find_map(message::read)),
        Err(Errno::ENODEV) => Ok(None),
        Err(errno) => Err(io::Error::from(errno)).with_context(|| format!("look up link {name}")),
    }
}

/// Success, or one of the refusals that mean that it is so already.
fn ignore(answer: netlink::Answer, harmless: &[Errno]) -> Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(errno) if harmless.contains(&errno) => Ok(false),
        Err(errno) => Err(io::Error::from(errno).into()),
    }
}

impl Kernel for Linux {
    fn ensure_namespace(&self, name: &str) -> Result<bool> {
        if let Some(file) = namespace::open(name)? {
            namespace::enter(&file, &self.host, namespace::apply_settings)?;
            return Ok(false);
        }
        namespace::create(name)?;
        Ok(true)
    }

    fn has_namespace(&self, name: &str) -> Result<bool> {
        Ok(namespace::open(name)?.is_some())
    }

    fn delete_namespace(&self, name: &str) -> Result<()> {
        namespace::delete(name)
    }

    fn namespaces(&self) -> Result<Vec<String>> {
        namespace::list(&names::NAMESPACE_PREFIXES)
    }

    fn host_link(&self, name: &LinkName) -> Result<HostLink> {
        let link = self.find_on_host(name)?;
        Ok(link.map_or(HostLink::Absent, |link| if link.is_bridge { HostLink::Bridge } else { HostLink::Other }))
    }

    fn ensure_bridge(&self, namespace: &str, bridge: &LinkName, mtu: Option<Mtu>) -> Result<bool> {
        let mut netlink = self.required(&Namespace::Named(namespace.to_owned()))?;
        match find(&mut netlink, bridge)? {
            Some(link) if link.is_bridge => {
                if link.mac == Some(bridge_mac(namespace, bridge)) {
                    netlink.tell(message::configure_bridge(link.index), 0).context("configure a bridge")?;
                }
                return Ok(false);
            }
            Some(_) => {
                bail!("{bridge} in network namespace {namespace} is a link of another kind: give another --opt bridge")
            }
            None => {}
        }
        let mac = bridge_mac(namespace, bridge);
        netlink
            .tell(message::new_bridge(bridge, mac, mtu), NLM_F_CREATE | NLM_F_EXCL)
            .with_context(|| format!("create bridge {bridge} in network namespace {namespace}"))?;
        Ok(true)
    }

    fn is_own_bridge(&self, namespace: &str, link: &LinkName) -> Result<bool> {
        let Some(mut netlink) = self.netlink(&Namespace::Named(namespace.to_owned()))? else { return Ok(false) };
        let found = find(&mut netlink, link)?;
        Ok(found.is_some_and(|found| found.is_bridge && found.mac == Some(bridge_mac(namespace, link))))
    }

    fn delete_link(&self, namespace: &Namespace, link: &LinkName) -> Result<()> {
        let Some(mut netlink) = self.netlink(namespace)? else { return Ok(()) };
        ignore(netlink.ask(message::delete(link), 0)?, &[Errno::ENODEV])
            .map(drop)
            .with_context(|| format!("delete link {link} in network namespace {namespace}"))
    }

    fn add_address(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<()> {
        let mut netlink = self.required(&Namespace::Named(namespace.to_owned()))?;
        let link = find(&mut netlink, bridge)?.with_context(|| format!("bridge {bridge} is not there"))?;
        let message = RouteNetlinkMessage::NewAddress(message::address(link.index, subnet, address));
        ignore(netlink.ask(message, NLM_F_CREATE | NLM_F_EXCL)?, &[Errno::EEXIST])
            .map(drop)
            .with_context(|| format!("give bridge {bridge} gateway address {address}"))
    }

    fn remove_address(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<()> {
        let Some(mut netlink) = self.netlink(&Namespace::Named(namespace.to_owned()))? else { return Ok(()) };
        let Some(link) = find(&mut netlink, bridge)? else { return Ok(()) };
        let message = RouteNetlinkMessage::DelAddress(message::address(link.index, subnet, address));
        ignore(netlink.ask(message, 0)?, &[Errno::EADDRNOTAVAIL])
            .map(drop)
            .with_context(|| format!("take gateway address {address} from bridge {bridge}"))
    }

    fn create_veth(&self, veth: &Veth) -> Result<()> {
        self.within(&veth.namespace, || port::create(veth, self.host.as_fd()))
    }

    fn attach(&self, veth: &Veth) -> Result<()> {
        self.within(&veth.namespace, || port::attach(veth))
    }

    fn forget_neighbours(&self, namespace: &str, bridge: &LinkName, addresses: &[IpAddr]) -> Result<()> {
        self.within(&Namespace::Named(namespace.to_owned()), || port::forget_neighbours(bridge, addresses))
    }

    fn addresses(&self, namespace: &str) -> Result<Vec<(LinkName, Subnet, IpAddr)>> {
        let Some(mut netlink) = self.netlink(&Namespace::Named(namespace.to_owned()))? else { return Ok(Vec::new()) };
        let links = netlink.dump(message::get_all(), message::read).context("list links")?;
        let addresses = netlink.dump(message::get_addresses(), message::read_address).context("list addresses")?;
        let named = addresses.into_iter().filter_map(|(index, prefix, address)| {
            let link = links.iter().find(|link| link.index == index)?;
            Some((link.name.parse().ok()?, Subnet::new(address, prefix).ok()?, address))
        });
        Ok(named.filter(|(_, _, address)| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())).collect())
    }

    fn delete_veths(&self, veths: &[Veth]) -> Result<()> {
        let ends: Vec<_> = veths.iter().map(|veth| &veth.container_link).collect();
        let found = self.delete_together(&mut Netlink::open()?, &ends)?;
        // The container's end may still be inside a container: then the other end takes it away.
        let inside = veths.iter().zip(found).filter(|(_, found)| !found);
        let mut failed = None;
        for (veth, _) in inside {
            if let Err(error) = self.delete_link(&veth.namespace, &veth.host_link) {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn place(&self, veth: &Veth) -> Result<Place> {
        if let Some(link) = self.find_on_host(&veth.container_link)? {
            return Ok(Place::Host(link.mac));
        }
        let Some(mut netlink) = self.netlink(&veth.namespace)? else { return Ok(Place::Gone) };
        Ok(find(&mut netlink, &veth.host_link)?.map_or(Place::Gone, |_| Place::Container))
    }

    fn peek(&self, name: &LinkName) -> Option<(u32, MacAddr)> {
        // A netlink request would take the RTNL lock, which deleting links holds for some 20 ms.
        let mut file = File::open(format!("/sys/devices/virtual/net/{name}/address")).ok()?;
        let mut text = [0; 32];
        let length = file.read(&mut text).ok()?;
        let mac = std::str::from_utf8(&text[..length]).ok()?.trim_end().parse().ok()?;
        Some((if_nametoindex(name.as_str()).ok()?, mac))
    }

    fn is_still(&self, index: u32, name: &LinkName) -> bool {
        if_indextoname(index).is_ok_and(|found| found.as_bytes() == name.as_str().as_bytes())
    }

    fn bridges_leading_out(&self) -> Result<Vec<LinkName>> {
        egress::bridges()
    }

    fn links(&self, namespace: &Namespace) -> Result<Vec<LinkName>> {
        let Some(mut netlink) = self.netlink(namespace)? else { return Ok(Vec::new()) };
        let name = |reply: &RouteNetlinkMessage| message::read(reply)?.name.parse().ok();
        netlink.dump(message::get_all(), name).context("list links")
    }

    fn ensure_uplink(&self, uplink: &UplinkPair) -> Result<bool> {
        uplink::ensure(self, uplink)
    }

    fn route_to_uplink(&self, uplink: &UplinkPair, subnet: Subnet) -> Result<()> {
        uplink::route(uplink, subnet)
    }

    fn unroute_from_uplink(&self, uplink: &UplinkPair, subnet: Subnet) -> Result<()> {
        uplink::unroute(uplink, subnet)
    }

    fn host_addresses(&self) -> Result<Vec<(Subnet, IpAddr)>> {
        let found = Netlink::open()?.dump(message::get_addresses(), message::read_address);
        found
            .context("list addresses")?
            .into_iter()
            .map(|(_, prefix, address)| Ok((Subnet::new(address, prefix)?, address)))
            .collect()
    }

    fn run_nft(&self, namespace: &Namespace, script: &str) -> Result<()> {
        command::run(self.file(namespace)?.as_ref(), &self.host, script)
    }

    fn change_elements(&self, namespace: &Namespace, elements: &[Element], change: Change) -> Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        if !nft_elements::understands(elements) {
            return self.run_nft(namespace, &element::script(elements, change));
        }
        nft_elements::change(&self.within(namespace, nft_elements::open)?, elements, change)
    }

    fn has_rules(&self, namespace: &Namespace) -> Result<bool> {
        let chains = command::list(self.file(namespace)?.as_ref(), &self.host, &["chains", "inet"])?;
        Ok(chains.contains("table inet ciao {"))
    }

    fn rules_generation(&self) -> Result<Option<u32>> {
        if firewall::is_legacy() { Ok(None) } else { nft_elements::generation(&nft_elements::open()?).map(Some) }
    }

    fn list_rules(&self, namespace: &Namespace) -> Result<String> {
        command::list(self.file(namespace)?.as_ref(), &self.host, &["ruleset"])
    }

    fn open_firewall(&self, passage: &Passage) -> Result<()> {
        firewall::open(passage)
    }

    fn close_firewall(&self, passage: &Passage) -> Result<()> {
        firewall::close(passage)
    }
}
