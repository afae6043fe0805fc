// SPDX-License-Identifier: Apache-2.0
//! VXLAN links on tenants' bridges.
//!
//! A link is made from the host's namespace in the tenant's: its UDP socket stays the host's. Nothing is learned and
//! nothing flooded: each MAC address is a static entry, of the link by the nexthop group of its host and of the bridge,
//! and each address a permanent neighbour of the bridge, which answers ARP and neighbour discovery in its place. An
//! address without entry does not exist.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ciao_common::types::{LinkName, MacAddr};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVxlan, LinkAttribute, LinkInfo,
};
use nix::errno::Errno;

use super::link::is_own;
use super::netlink::Netlink;
use super::tunnel_entries::Entries;
use super::{Linux, address, exit, message, namespace, nexthop, nft, ping};
use crate::kernel::element::{Change, Element, Ruleset};
use crate::kernel::tunnel::{DELETE_TUNNEL_RULES, Tunnels, Underlay, VxlanLink};
use crate::kernel::{Flows, Links, Namespace, Rules};
use crate::names;

/// The rules of tunnels, as nft lists them.
const RULES: &[&str] = &["table", "inet", "ciao_tunnel"];
/// How many messages go in one datagram: each is acknowledged, and a socket holds so many acknowledgements.
const BATCH: usize = 100;
/// A link that is gone with its namespace keeps its VNI until the kernel has cleaned up.
const TRIES: u32 = 40;

impl Tunnels for Linux {
    fn tunnel_hosts(&self) -> Result<BTreeMap<u32, IpAddr>> {
        nexthop::list()
    }

    fn underlay(&self, link: &LinkName) -> Result<Underlay> {
        let mut host = Netlink::open()?;
        let replies = match host.request(message::get(link), 0)? {
            Ok(replies) => replies,
            Err(Errno::ENODEV) => return Ok(Underlay::default()),
            Err(errno) => return Err(std::io::Error::from(errno)).with_context(|| format!("look up link {link}")),
        };
        let Some(RouteNetlinkMessage::NewLink(found)) = replies.first() else { return Ok(Underlay::default()) };
        let is_encrypted = found.attributes.iter().any(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Wireguard)),
            _ => false,
        });
        let addresses = host.dump(address::get_all(), address::read_address).context("list addresses")?;
        let addresses = addresses.into_iter().filter(|(index, ..)| *index == found.header.index);
        Ok(Underlay { addresses: addresses.map(|(.., address)| address).collect(), is_encrypted })
    }

    fn set_tunnel_host(&self, number: u32, address: IpAddr) -> Result<()> {
        nexthop::set(number, address)
    }

    fn delete_tunnel_host(&self, number: u32) -> Result<()> {
        nexthop::delete(number)
    }

    fn echo(&self, from: IpAddr, to: IpAddr, bytes: u32) -> Result<bool> {
        ping::echo(from, to, bytes)
    }

    fn load_tunnel_rules(&self, ruleset: Option<&Ruleset>) -> Result<Option<u32>> {
        match ruleset {
            Some(ruleset) => self.load_rules(&Namespace::Host, ruleset),
            None => self.run_nft(&Namespace::Host, DELETE_TUNNEL_RULES).map(|()| None),
        }
    }

    fn tunnel_rules_difference(&self, ruleset: Option<&Ruleset>) -> Result<Option<String>> {
        match ruleset {
            Some(ruleset) => self.rules_difference(&Namespace::Host, ruleset),
            None => Ok((!nft::listing(&["-s", "-t"], RULES)?.is_empty()).then(|| "not deleted".to_owned())),
        }
    }

    fn change_tunnel_elements(&self, elements: &[Element], change: Change) -> Result<Option<u32>> {
        self.change_elements(&Namespace::Host, elements, change)
    }

    fn tunnel_drops(&self) -> Result<BTreeMap<String, u64>> {
        let listed = nft::listing(&["-t"], RULES)?;
        let words: Vec<_> = listed.split_whitespace().collect();
        let drops = words.windows(5).filter_map(|words| match words {
            ["counter", name, "{", "packets", count] => Some(((*name).to_owned(), count.parse().ok()?)),
            _ => None,
        });
        Ok(drops.collect())
    }

    fn set_gateway_mac(&self, namespace: &str, bridge: &LinkName, mac: MacAddr) -> Result<()> {
        let mut inside = self.required(Some(namespace))?;
        let found = inside.required(bridge)?;
        if !is_own(&found, namespace, bridge) || found.mac == Some(mac) {
            return Ok(());
        }
        inside.execute(message::set_mac(found.index, mac), 0).context("set a bridge's MAC address to the gateway's")
    }

    fn ensure_tunnel(&self, link: &VxlanLink) -> Result<()> {
        let mut inside = self.required(Some(&link.namespace))?;
        let found = inside.find_as(&link.link, read)?;
        if !found.as_ref().is_some_and(|found| found.is_same(link)) {
            if found.is_some() {
                inside.execute_unless(message::delete(&link.link), 0, Errno::ENODEV)?;
            }
            create(link)?;
        }
        let bridge = inside.required(&link.bridge)?.index;
        inside.execute(message::set_controller(&link.link, bridge), 0).context("add a tunnel to its bridge")?;
        let index = inside.required(&link.link)?.index;
        let settings = message::port_settings(index, settings(link).to_vec());
        inside.execute(settings, 0).context("configure a tunnel's port")?;
        let changes = Entries::read(&mut inside, index, bridge)?.changes(link, index, bridge);
        for batch in changes.chunks(BATCH) {
            inside.execute_all(batch.to_vec(), None).context("write a tunnel's entries")?;
        }
        if exit::ensure(&mut inside, index, link)? {
            // Their translation was decided by the former egress path.
            self.forget_flows(&Namespace::Named(link.namespace.clone()), &Flows::Of(link.own.clone()))?;
        }
        Ok(())
    }

    fn delete_tunnel(&self, namespace: &str, bridge: &LinkName, link: &LinkName) -> Result<()> {
        if let Some(mut inside) = self.netlink(Some(namespace))? {
            exit::forget(&mut inside, bridge)?;
        }
        self.delete_link(&Namespace::Named(namespace.to_owned()), link)
    }

    fn tunnel_difference(&self, link: &VxlanLink) -> Result<Option<String>> {
        let Some(mut inside) = self.netlink(Some(&link.namespace))? else { return Ok(None) };
        let Some(found) = inside.find_as(&link.link, read)? else { return Ok(Some("missing".to_owned())) };
        if !found.is_same(link) {
            return Ok(Some("a different VNI, port, address or MTU".to_owned()));
        }
        let Some(bridge) = inside.find(&link.bridge)? else { return Ok(None) };
        if found.link.controller != Some(bridge.index) {
            return Ok(Some(format!("not a port of {}", link.bridge)));
        }
        if is_own(&bridge, &link.namespace, &link.bridge) && bridge.mac != Some(link.gateway) {
            return Ok(Some(format!("{} has another MAC address than on other hosts", link.bridge)));
        }
        if !found.link.is_up {
            return Ok(Some("down".to_owned()));
        }
        if !settings(link).iter().all(|wanted| found.port_settings.contains(wanted)) {
            return Ok(Some("the settings of its bridge port were changed".to_owned()));
        }
        let index = found.link.index;
        let changes = Entries::read(&mut inside, index, bridge.index)?.changes(link, index, bridge.index);
        if !changes.is_empty() {
            return Ok(Some("its entries differ".to_owned()));
        }
        let is_right = exit::is_right(&mut inside, index, link)?;
        Ok((!is_right).then(|| "the egress path by its concentrator differs".to_owned()))
    }
}

/// A link as it stands.
#[derive(Default)]
struct Found {
    link: message::Link,
    mtu: Option<u32>,
    vni: Option<u32>,
    port: Option<u16>,
    local: Option<IpAddr>,
    port_settings: Vec<InfoBridgePort>,
}

impl Found {
    fn is_same(&self, link: &VxlanLink) -> bool {
        (self.vni, self.port, self.local) == (Some(link.vni), Some(link.port), Some(link.local))
            && link.mtu.is_none_or(|mtu| self.mtu == Some(mtu.bytes()))
    }
}

fn read(reply: &RouteNetlinkMessage) -> Option<Found> {
    let (link, RouteNetlinkMessage::NewLink(whole)) = (message::read(reply)?, reply) else { return None };
    let mut found = Found { link, ..Found::default() };
    for attribute in &whole.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => found.mtu = Some(*mtu),
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| match info {
                LinkInfo::Data(InfoData::Vxlan(data)) => data.iter().for_each(|one| match one {
                    InfoVxlan::Id(vni) => found.vni = Some(*vni),
                    InfoVxlan::Port(port) => found.port = Some(*port),
                    InfoVxlan::Local(v4) => found.local = Some((*v4).into()),
                    InfoVxlan::Local6(v6) => found.local = Some((*v6).into()),
                    _ => {}
                }),
                LinkInfo::PortData(InfoPortData::BridgePort(settings)) => {
                    found.port_settings.clone_from(settings);
                }
                _ => {}
            }),
            _ => {}
        }
    }
    Some(found)
}

/// Makes the link, down and no port.
fn create(link: &VxlanLink) -> Result<()> {
    let file = namespace::open(&link.namespace)?
        .with_context(|| format!("network namespace {} does not exist", link.namespace))?;
    let local = match link.local {
        IpAddr::V4(v4) => InfoVxlan::Local(v4),
        IpAddr::V6(v6) => InfoVxlan::Local6(v6),
    };
    let data =
        [InfoVxlan::Id(link.vni), local, InfoVxlan::Port(link.port), InfoVxlan::Learning(false), InfoVxlan::Ttl(64)];
    let info = vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data.into()))];
    let mac = LinkAttribute::Address(names::tunnel_mac(link.local).octets().to_vec());
    let attributes = [LinkAttribute::NetNsFd(file.as_raw_fd()), mac, LinkAttribute::LinkInfo(info)];
    let message = message::named(&link.link, attributes.into_iter().chain(message::mtu(link.mtu)));
    let mut host = Netlink::open()?;
    for _ in 0..TRIES {
        let message = RouteNetlinkMessage::NewLink(message.clone());
        if host.execute_unless(message, NLM_F_CREATE | NLM_F_EXCL, Errno::EEXIST).context("create a tunnel")? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    bail!("VNI {} on UDP port {} is in use by another program: give another vni", link.vni, link.port)
}

/// Nothing is learned at the port, and nothing is sent there that has no entry, unless broadcast and multicast are.
fn settings(link: &VxlanLink) -> [InfoBridgePort; 5] {
    let floods = link.flood.is_some();
    [
        InfoBridgePort::Learning(false),
        InfoBridgePort::UnicastFlood(false),
        InfoBridgePort::MulticastFlood(floods),
        InfoBridgePort::BroadcastFlood(floods),
        InfoBridgePort::NeighSupress(true),
    ]
}
