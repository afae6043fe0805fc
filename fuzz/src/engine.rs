// SPDX-License-Identifier: Apache-2.0
//! What an engine, and whoever else, does around calls: links moved into containers and back, kills, reboots.

use std::collections::BTreeSet;

use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::FakeLink;
use serde_json::Value;

use crate::host::{Host, link};

/// How the names of containers' namespaces begin.
const SANDBOX: &str = "sandbox-";

impl Host {
    /// A call that the engine makes after `Join`'s success: the link goes into the container.
    pub(crate) fn enter(&self, reply: &Value, endpoint: &str) {
        if let Some(link) = reply["InterfaceName"]["SrcName"].as_str() {
            let there = self.kernel.state().links.contains_key(&(Namespace::Host, super::host::link(link)));
            assert!(there, "Join answers link {link}, which is not there");
            self.kernel.move_link(&super::host::link(link), &Namespace::Host, &sandbox(endpoint));
        }
    }

    /// After `Leave` it gives the link back.
    pub(crate) fn exit(&self, endpoint: &str) {
        let from = sandbox(endpoint);
        for (_, link) in self.kernel.state().links.keys().filter(|(place, _)| *place == from) {
            self.kernel.move_link(link, &from, &Namespace::Host);
        }
    }

    /// dockerd is killed, and so are the containers: links in sandboxes vanish, and their peers.
    pub(crate) fn kill_containers(&mut self) {
        self.disturbed = true;
        self.kernel.change(|state| {
            let inside = |place: &Namespace| place.name().is_some_and(|name| name.starts_with(SANDBOX));
            let dead: BTreeSet<_> =
                state.links.keys().filter(|(place, _)| inside(place)).map(|(_, link)| link.clone()).collect();
            state.links.retain(|(place, _), link| {
                !inside(place) && !matches!(link, FakeLink::HostEnd(_, peer) if dead.contains(peer))
            });
        });
        self.records.age_endpoints();
    }

    /// Somebody makes a bridge on the host, or removes one that nothing is on: those of others are never made again.
    pub(crate) fn set_host_bridge(&mut self, name: &str, there: bool) {
        self.disturbed = true;
        let used = self.records.use_host_bridge(name);
        let place = (Namespace::Host, link(name));
        self.kernel.change(|state| {
            if there {
                state.links.entry(place).or_insert_with(|| FakeLink::Bridge(BTreeSet::new()));
            } else if !used && matches!(state.links.get(&place), Some(FakeLink::Bridge(_))) {
                state.links.remove(&place);
            }
        });
    }

    /// Nothing stands but what the host itself brings.
    pub(crate) fn reboot(&mut self) {
        self.kernel.change(|state| {
            let mut links = std::mem::take(state).links;
            links.retain(|(place, _), what| *place == Namespace::Host && matches!(what, FakeLink::Bridge(_)));
            state.links = links;
        });
        self.records.age_endpoints();
        self.disturbed = true;
        self.restart();
    }
}

fn sandbox(endpoint: &str) -> Namespace {
    Namespace::Named(format!("{SANDBOX}{endpoint}"))
}
