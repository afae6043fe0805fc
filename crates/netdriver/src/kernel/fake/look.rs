// SPDX-License-Identifier: Apache-2.0
//! What the double shows of a namespace.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use ciao_common::types::LinkName;

use super::Fake;
use super::state::{FakeLink, State};
use crate::kernel::state::{Changes, Seen, SeenLink, Watch};
use crate::kernel::{Inspection, Namespace};
use crate::names;

impl Inspection for Fake {
    fn look(&self, namespace: &Namespace) -> Result<Option<Seen>> {
        self.faults.pass(namespace);
        let state = self.reading()?;
        if namespace.name().is_some_and(|name| !state.namespaces.contains(name)) {
            return Ok(None);
        }
        Ok(Some(look(&state, namespace)))
    }

    fn watch(&self) -> Result<Box<dyn Watch>> {
        Ok(Box::new(Silence))
    }
}

/// Nothing is reported: a test calls what it tests.
struct Silence;

impl Watch for Silence {
    fn wait(&mut self, _patience: Duration) -> Result<Changes> {
        Ok(Changes::default())
    }
}

fn look(state: &State, namespace: &Namespace) -> Seen {
    let mut seen = Seen::default();
    for ((inside, name), kind) in &state.links {
        if inside != namespace {
            continue;
        }
        let mut link = SeenLink { is_up: !state.down.contains(&(inside.clone(), name.clone())), ..SeenLink::default() };
        link.alias = state.aliases.get(&(inside.clone(), name.clone())).cloned();
        match kind {
            FakeLink::Bridge(addresses) => {
                link.is_bridge = true;
                link.mac = namespace.name().map(|namespace| names::bridge_mac(namespace, name));
                seen.addresses.extend(addresses.iter().map(|address| (name.clone(), *address)));
            }
            FakeLink::HostEnd(bridge, peer) => {
                link.bridge = Some(bridge.clone());
                let is_peer = |(_, other): &&(Namespace, LinkName)| other == peer;
                let peer = state.links.keys().find(is_peer);
                if let Some(FakeLink::ContainerEnd(mac)) = peer.and_then(|place| state.links.get(place)) {
                    seen.static_macs.insert((name.clone(), *mac));
                }
                link.sandbox = peer.and_then(|(place, _)| sandbox(state, place));
            }
            FakeLink::ContainerEnd(mac) => link.mac = Some(*mac),
            FakeLink::Uplink(_) | FakeLink::Vxlan(_) | FakeLink::Other => {}
        }
        seen.links.insert(name.clone(), link);
    }
    for ((inside, bridge, address), mac) in &state.neighbours {
        if namespace.name() == Some(inside) {
            seen.neighbours.insert((bridge.clone(), *address, *mac));
        }
    }
    for (inside, uplink) in &state.uplinks {
        for (host_end, inner_end) in uplink.ends() {
            match namespace.name() {
                None => {
                    seen.addresses.insert((uplink.host_link.clone(), host_end));
                }
                Some(name) if name == inside => {
                    seen.addresses.insert((uplink.inner_link.clone(), inner_end));
                    if !state.unrouted.contains(name) {
                        seen.default_routes.insert((uplink.inner_link.clone(), host_end));
                    }
                }
                Some(_) => {}
            }
        }
    }
    if state.not_forwarding.contains(namespace) {
        seen.wrong_settings.insert("net.ipv4.ip_forward");
    }
    seen
}

/// A number for the namespace of a container.
fn sandbox(state: &State, place: &Namespace) -> Option<i32> {
    let places: BTreeSet<_> = state.links.keys().map(|(inside, _)| inside).collect();
    let number = places.into_iter().position(|inside| inside == place)?;
    i32::try_from(number).ok().filter(|_| *place != Namespace::Host)
}
