// SPDX-License-Identifier: Apache-2.0
//! The state of a namespace, in a few lists.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ciao_common::types::LinkName;
use netlink_packet_route::AddressFamily;

use super::{Linux, address, message, namespace, neighbour, nsid, prerequisites, watch};
use crate::kernel::state::{Check, Seen, SeenLink, Traffic, Watch};
use crate::kernel::{Inspection, Namespace};

/// What the host must do for the tenants' uplinks. IPv6's counts where a tenant has IPv6.
const HOST_SETTINGS: [&str; 2] = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];

impl Inspection for Linux {
    fn traffic(&self, namespace: &Namespace) -> Result<BTreeMap<LinkName, Traffic>> {
        let Some(mut netlink) = self.netlink(namespace.name())? else { return Ok(BTreeMap::new()) };
        let links = netlink.dump(message::get_all(), message::read_traffic).context("list links")?;
        Ok(links.into_iter().filter_map(|(name, traffic)| Some((name.parse().ok()?, traffic))).collect())
    }

    fn tracked(&self) -> Option<(u64, u64)> {
        let count = |name: &str| number(&format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
        Some((count("count")?, count("max")?))
    }

    fn prerequisites(&self) -> Vec<Check> {
        prerequisites::checks(Path::new("/"))
    }

    fn look(&self, namespace: &Namespace) -> Result<Option<Seen>> {
        look(self, namespace).with_context(|| format!("inspect network namespace {namespace}"))
    }

    fn watch(&self) -> Result<Box<dyn Watch>> {
        Ok(Box::new(watch::open()?))
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Reads what exists in a namespace; `None`: the namespace does not exist.
fn look(linux: &Linux, inside: &Namespace) -> Result<Option<Seen>> {
    let Some(mut netlink) = linux.netlink(inside.name())? else { return Ok(None) };
    let links = netlink.dump(message::get_all(), message::read).context("list links")?;
    let addresses = netlink.dump(address::get_all(), address::read_address).context("list addresses")?;
    // A name that no link of ciao's can have is nobody's that is looked for.
    let names: BTreeMap<u32, LinkName> =
        links.iter().filter_map(|link| Some((link.index, link.name.parse().ok()?))).collect();
    let host = if *inside == Namespace::Host { None } else { nsid::identify(&mut netlink, &linux.host)? };
    let mut seen = Seen::default();
    for link in &links {
        let Some(name) = names.get(&link.index) else { continue };
        let bridge = link.controller.and_then(|index| names.get(&index).cloned());
        let sandbox = link.peer_namespace.filter(|id| host.is_some_and(|host| *id != host));
        let &message::Link { is_up, is_bridge, mac, learns, .. } = link;
        let alias = link.alias.clone();
        seen.links.insert(name.clone(), SeenLink { is_up, is_bridge, mac, bridge, learns, alias, sandbox });
    }
    for (index, _, address) in addresses {
        if let Some(name) = names.get(&index) {
            seen.addresses.insert((name.clone(), address));
        }
    }
    if *inside == Namespace::Host {
        let is_off = |name: &&str| fs::read_to_string(namespace::setting(name)).is_ok_and(|found| found.trim() == "0");
        seen.wrong_settings.extend(HOST_SETTINGS.into_iter().filter(is_off));
        return Ok(Some(seen));
    }
    for (index, router) in netlink.dump(address::get_routes(), address::read_default_route).context("list routes")? {
        if let Some(name) = names.get(&index) {
            seen.default_routes.insert((name.clone(), router));
        }
    }
    for family in [AddressFamily::Unspec, AddressFamily::Bridge] {
        let entries = netlink.dump(neighbour::get_all(family), neighbour::read_static).context("list neighbours")?;
        for (index, address, mac) in entries {
            match (names.get(&index), address) {
                (Some(name), Some(address)) => drop(seen.neighbours.insert((name.clone(), address, mac))),
                (Some(name), None) => drop(seen.static_macs.insert((name.clone(), mac))),
                (None, _) => {}
            }
        }
    }
    let settings = linux.within(inside.name(), || Ok(namespace::wrong_settings().map(|(name, _)| name).collect()))?;
    seen.wrong_settings = settings;
    Ok(Some(seen))
}
