// SPDX-License-Identifier: Apache-2.0
//! The state of a network namespace, read at once, and what the kernel reports of its changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use ciao_common::types::{LinkName, MacAddr};
use serde::Serialize;

use super::namespace::Namespace;

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenLink {
    /// Set up; whether its peer is too does not matter.
    pub is_up: bool,
    /// A bridge.
    pub is_bridge: bool,
    /// Its MAC address.
    pub mac: Option<MacAddr>,
    /// The bridge that it is a port of.
    pub bridge: Option<LinkName>,
    /// Whether that bridge learns MAC addresses there; `None`: it is no port.
    pub learns: Option<bool>,
    /// Its alias.
    pub alias: Option<String>,
    /// Of a VNIC's host end: an id of the network namespace that has the container's end, unless that is the host's.
    pub sandbox: Option<i32>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its links.
    pub links: BTreeMap<LinkName, SeenLink>,
    /// Their addresses, without link-local IPv6 ones.
    pub addresses: BTreeSet<(LinkName, IpAddr)>,
    /// Permanent neighbours of its links. A tenant's only.
    pub neighbours: BTreeSet<(LinkName, IpAddr, MacAddr)>,
    /// The static entries of its bridges' forwarding databases, by port. A tenant's only.
    pub static_macs: BTreeSet<(LinkName, MacAddr)>,
    /// Its default routes of the main table: the link, and the router on it. A tenant's only.
    pub default_routes: BTreeSet<(LinkName, IpAddr)>,
    /// The settings of the kernel that are not as ciao needs them, such as `net.ipv4.ip_forward`.
    pub wrong_settings: BTreeSet<&'static str>,
}

/// Where something changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Links, addresses, routes or forwarding.
    pub links: BTreeSet<Namespace>,
    /// Rules.
    pub rules: BTreeSet<Namespace>,
    /// Routes of the host.
    pub routes: bool,
    /// More changed than was reported: anywhere.
    pub lost: bool,
}

impl Changes {
    /// Adds what changed later.
    pub fn merge(&mut self, later: Self) {
        self.links.extend(later.links);
        self.rules.extend(later.rules);
        self.routes |= later.routes;
        self.lost |= later.lost;
    }
}

/// The kernel's reports.
pub trait Watch: Send {
    /// What changed since the last call, waiting for something for as long as `patience`.
    fn wait(&mut self, patience: Duration) -> Result<Changes>;
}

/// What a link has carried, bytes and packets each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Received by this end.
    pub received: (u64, u64),
    /// Sent by it.
    pub sent: (u64, u64),
}

/// Something that ciao needs of the host, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is checked.
    pub check: &'static str,
    /// What was found.
    pub found: String,
    /// What to do; none: it is as it should be.
    pub remedy: Option<String>,
    /// Whether nothing works without it.
    #[serde(skip)]
    pub blocks: bool,
}

/// What exists, and what changes.
pub trait Inspection {
    /// What ciao needs of the host.
    fn prerequisites(&self) -> Vec<Check> {
        Vec::new()
    }

    /// What the links of a namespace have carried. The namespace does not exist: none.
    fn traffic(&self, _namespace: &Namespace) -> Result<BTreeMap<LinkName, Traffic>> {
        Ok(BTreeMap::new())
    }

    /// Connections that the host tracks, and the most that it tracks.
    fn tracked(&self) -> Option<(u64, u64)> {
        None
    }

    /// What exists in a namespace; `None`: the namespace does not.
    fn look(&self, namespace: &Namespace) -> Result<Option<Seen>>;

    /// Subscribes to reports of changes, in the host's namespace and all of ciao's.
    fn watch(&self) -> Result<Box<dyn Watch>>;
}
