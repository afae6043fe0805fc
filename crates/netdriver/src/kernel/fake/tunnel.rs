// SPDX-License-Identifier: Apache-2.0
//! The double's tunnels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Result, ensure};
use ciao_common::types::{LinkName, MacAddr};

use super::Fake;
use super::state::FakeLink;
use crate::kernel::Namespace;
use crate::kernel::element::{Change, Element, Ruleset};
use crate::kernel::tunnel::{Tunnels, Underlay, VxlanLink};

impl Tunnels for Fake {
    fn tunnel_hosts(&self) -> Result<BTreeMap<u32, IpAddr>> {
        Ok(self.reading()?.tunnel_hosts.clone())
    }

    fn underlay(&self, link: &LinkName) -> Result<Underlay> {
        Ok(self.reading()?.underlays.get(link).cloned().unwrap_or_default())
    }

    fn set_tunnel_host(&self, number: u32, address: IpAddr) -> Result<()> {
        self.changing()?.tunnel_hosts.insert(number, address);
        Ok(())
    }

    fn delete_tunnel_host(&self, number: u32) -> Result<()> {
        let mut state = self.changing()?;
        state.tunnel_hosts.remove(&number);
        for link in state.links.values_mut() {
            if let FakeLink::Vxlan(link) = link {
                link.macs.retain(|_, host| *host != number);
                link.exit = link.exit.filter(|host| *host != number);
            }
        }
        Ok(())
    }

    fn echo(&self, _from: IpAddr, to: IpAddr, bytes: u32) -> Result<bool> {
        let state = self.reading()?;
        Ok(!state.silent.contains(&to) && state.carried.is_none_or(|carried| bytes <= carried))
    }

    fn load_tunnel_rules(&self, ruleset: Option<&Ruleset>) -> Result<Option<u32>> {
        self.changing()?.tunnel_rules = ruleset.map(lines_of).unwrap_or_default();
        self.count(&Namespace::Host);
        Ok(Some(self.generation(&Namespace::Host)))
    }

    fn tunnel_rules_difference(&self, ruleset: Option<&Ruleset>) -> Result<Option<String>> {
        let wanted = ruleset.map(lines_of).unwrap_or_default();
        Ok((self.reading()?.tunnel_rules != wanted).then(|| "changed".to_owned()))
    }

    fn change_tunnel_elements(&self, elements: &[Element], change: Change) -> Result<Option<u32>> {
        let mut state = self.changing()?;
        for line in elements.iter().map(|element| element.line(Change::Add)) {
            match change {
                Change::Add => drop(state.tunnel_rules.insert(line)),
                Change::Delete => ensure!(state.tunnel_rules.remove(&line), "there is no {line}"),
            }
        }
        self.count(&Namespace::Host);
        Ok(Some(self.generation(&Namespace::Host)))
    }

    fn tunnel_drops(&self) -> Result<BTreeMap<String, u64>> {
        let reasons = ["strangers", "forged", "forwarded", "diverted"];
        Ok(reasons.map(|reason| (reason.to_owned(), 0)).into())
    }

    fn set_gateway_mac(&self, _namespace: &str, _bridge: &LinkName, _mac: MacAddr) -> Result<()> {
        self.changing().map(drop)
    }

    fn ensure_tunnel(&self, link: &VxlanLink) -> Result<()> {
        let mut state = self.changing()?;
        let place = |name| (Namespace::Named(link.namespace.clone()), name);
        ensure!(state.links.contains_key(&place(link.bridge.clone())), "bridge {} does not exist", link.bridge);
        let unknown = link.macs.values().chain(&link.exit).find(|number| !state.tunnel_hosts.contains_key(number));
        ensure!(unknown.is_none(), "nexthop {unknown:?} does not exist");
        state.links.insert(place(link.link.clone()), FakeLink::Vxlan(Box::new(link.clone())));
        let key = |address: &IpAddr| (link.namespace.clone(), link.bridge.clone(), *address);
        state.neighbours.retain(|found, _| {
            (&found.0, &found.1) != (&link.namespace, &link.bridge)
                || link.own.contains(&found.2)
                || link.neighbours.contains_key(&found.2)
        });
        state.neighbours.extend(link.neighbours.iter().map(|(address, mac)| (key(address), *mac)));
        state.down.remove(&place(link.link.clone()));
        Ok(())
    }

    fn delete_tunnel(&self, namespace: &str, _: &LinkName, link: &LinkName) -> Result<()> {
        self.changing()?.remove(&Namespace::Named(namespace.to_owned()), link);
        Ok(())
    }

    fn tunnel_difference(&self, link: &VxlanLink) -> Result<Option<String>> {
        let state = self.reading()?;
        let place = (Namespace::Named(link.namespace.clone()), link.link.clone());
        Ok(match state.links.get(&place) {
            Some(FakeLink::Vxlan(found))
                if VxlanLink { own: link.own.clone(), ..(**found).clone() } == *link
                    && !state.down.contains(&place) =>
            {
                None
            }
            Some(FakeLink::Vxlan(_)) => Some("its entries differ".to_owned()),
            _ => Some("missing".to_owned()),
        })
    }
}

/// The tables as one line, and one for each element.
fn lines_of(ruleset: &Ruleset) -> BTreeSet<String> {
    let elements = ruleset.elements.iter().map(|element| element.line(Change::Add));
    elements.chain([ruleset.tables.clone()]).collect()
}
