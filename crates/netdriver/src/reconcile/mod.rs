//! Records and kernel brought together again: after a reboot, a crash, a killed dockerd, or somebody's `ip link del`.
//!
//! It runs at start, before the plugin socket answers, then on a timer, and when an administrator asks. What a record
//! stands for and is gone is made again; links and namespaces of ours that no record stands for are deleted; endpoints
//! whose container is gone are forgotten. It never touches an endpoint or link younger than [`SETTLED`], whose call may
//! be under way, and never a container's link.

mod foreign;
mod missing;
mod stale;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use ciao_common::types::{EndpointId, NetworkId};
use serde::{Deserialize, Serialize};

use crate::Driver;

/// After this time an endpoint has joined, or its call has failed.
pub const SETTLED: Duration = Duration::from_secs(60);

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Nothing: it is only said what would be.
    Dry,
    /// What is seen to be missing at a glance: cheap enough for every minute.
    Glance,
    /// Besides, every namespace's rules and every network's addresses are written anew from the records.
    Whole,
}

/// What Docker knows: the rest is forgotten.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The ids of all its networks.
    pub networks: BTreeSet<NetworkId>,
    /// The ids of all endpoints of its networks of driver ciao-net; `None`: nobody asked.
    #[serde(default)]
    pub endpoints: Option<BTreeSet<EndpointId>>,
}

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// `make`, `delete` or `forget`.
    pub action: String,
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Collects repairs, and does them unless it is a dry run. A repair that fails is logged: the others go on.
struct Repairs<'a> {
    driver: &'a Driver,
    dry: bool,
    done: Vec<Repair>,
}

impl Repairs<'_> {
    fn repair(&mut self, action: &str, what: String, why: &str, act: impl FnOnce(&Driver) -> Result<()>) {
        if !self.dry {
            log::info!("reconcile: {action} {what}: {why}");
            if let Err(error) = act(self.driver) {
                log::warn!("reconcile: {action} {what}: {error:#}");
                return;
            }
        }
        self.done.push(Repair { action: action.to_owned(), what, why: why.to_owned() });
    }
}

impl Driver {
    /// Repairs what differs, and says what.
    ///
    /// # Errors
    /// The store or the kernel cannot be read at all.
    pub fn reconcile(&self, depth: Depth) -> Result<Vec<Repair>> {
        self.reconcile_with(depth, None)
    }

    /// As [`Self::reconcile`], with what Docker knows.
    ///
    /// # Errors
    /// As [`Self::reconcile`].
    pub fn reconcile_with(&self, depth: Depth, docker: Option<&Known>) -> Result<Vec<Repair>> {
        let dry = depth == Depth::Dry;
        let mut repairs = Repairs { driver: self, dry, done: Vec::new() };
        if !dry {
            self.fabric.vnics.delete(None)?;
            self.settle_pairings()?;
        }
        self.forget_networks(&mut repairs, docker)?;
        self.forget_stale_endpoints(&mut repairs, docker)?;
        self.make_missing(&mut repairs, depth, docker)?;
        self.delete_foreign(&mut repairs)?;
        if !dry {
            self.tidy_uplinks(depth)?;
        }
        Ok(repairs.done)
    }

    /// Uplinks that no network leaves by, and the host's rules.
    fn tidy_uplinks(&self, depth: Depth) -> Result<()> {
        for uplink in self.store.read(|tx| tx.uplinks())? {
            let _lock = self.fabric.lock(Some(&uplink.namespace));
            self.fabric.uplinks.tidy(&uplink.namespace)?;
        }
        self.fabric.host_rules.tidy()?;
        self.fabric.host_rules.restore(depth == Depth::Whole)
    }

    /// Puts the host's rules back after somebody's `iptables -F` or firewall reload. Cheap enough for every few seconds.
    ///
    /// # Errors
    /// The firewall's.
    pub fn watch_firewall(&self) -> Result<()> {
        self.fabric.host_rules.watch()
    }

    /// What only a start needs: the ports that are recorded are held again.
    ///
    /// # Errors
    /// The disk's.
    pub fn resume(&self) -> Result<()> {
        self.fabric.ports.hold_recorded()
    }
}
