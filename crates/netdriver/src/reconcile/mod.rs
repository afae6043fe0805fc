// SPDX-License-Identifier: Apache-2.0
//! Repair of differences between records and kernel: after a reboot, a crash, a killed dockerd, or an `ip link del`.
//!
//! It runs at start, while calls are answered (see `fabric/pending.rs`), then on a timer, and when an administrator
//! asks. What a record needs and is missing is created again; links and namespaces of ours without a record are
//! deleted; endpoints whose container no longer exists are removed. It never touches an endpoint or link younger than
//! [`SETTLED`], whose call may be under way, and never what a container is on.

mod foreign;
mod found;
mod known;
mod missing;
mod pools;
mod rebuild;
mod repairs;
mod stale;
mod watch;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use ciao_common::sync::lock;

use crate::Driver;
pub use known::{Known, Recorded};
pub use repairs::Repair;
use repairs::Repairs;
pub use watch::Watcher;

/// After this time an endpoint has joined, or its call has failed.
pub const SETTLED: Duration = Duration::from_secs(60);

/// How far a reconcile goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Nothing: repairs are listed and not made.
    DryRun,
    /// Rules are compared where something else changed them: cheap enough for every minute.
    Changed,
    /// The rules of every namespace are compared, one by one.
    Full,
}

impl Driver {
    /// Repairs what differs. Returns the repairs.
    pub fn reconcile(&self, depth: Depth) -> Vec<Repair> {
        self.reconcile_all(depth, None)
    }

    /// Whatever fails, of one tenant or of all, the rest is done.
    fn reconcile_all(&self, depth: Depth, docker: Option<&Known>) -> Vec<Repair> {
        let dry = depth == Depth::DryRun;
        let settled = self.settled(docker);
        let mut repairs = Repairs::new(self, dry);
        let rows = &mut repairs;
        self.rebuild(rows, docker);
        if !dry {
            rows.step("VNICs in state deleting", self.fabric.vnics.delete(None));
            rows.step("networks without a tenant", self.settle_pairings());
            rows.step("attached endpoints", self.note_attached());
            rows.step("published ports", self.fabric.ports.hold_missing());
            rows.step("routes of the host", self.note_host_routes());
            rows.step("nodes that left", self.forget_gone_nodes());
        }
        let forgotten = self.remove_stale_endpoints(rows, docker, settled);
        rows.step("endpoints", forgotten);
        let forgotten = self.remove_unknown_networks(rows, docker, settled);
        rows.step("networks", forgotten);
        if !dry {
            // What the background deletes would be seen half done.
            rows.step("VNICs in state deleting", self.fabric.vnics.delete(None));
            rows.step("networks on other hosts", self.fabric.follow_all_networks());
        }
        let restored = self.restore_all(rows, depth, docker);
        rows.step("recorded namespaces", restored);
        let deleted = self.delete_foreign(rows);
        rows.step("unrecorded links and namespaces", deleted);
        if !dry {
            self.tidy_uplinks(rows);
            let failing = |row: &Repair| Some(format!("{} {}: {}", row.action, row.what, row.error.as_ref()?));
            let failed = repairs.done.iter().filter(|row| row.error.is_some()).count();
            lock(&self.passes).add(repairs.done.len() - failed, failed, self.store.now());
            *lock(&self.failures) = repairs.done.iter().filter_map(failing).collect();
        }
        repairs.done
    }

    /// Makes lost records again and does nothing else.
    fn reconcile_records(&self, depth: Depth, docker: &Known) -> Vec<Repair> {
        let mut repairs = Repairs::new(self, depth == Depth::DryRun);
        self.rebuild(&mut repairs, Some(docker));
        repairs.done
    }

    /// Uplinks that no network leaves by, and the host's rules.
    fn tidy_uplinks(&self, repairs: &mut Repairs<'_>) {
        let uplinks = self.store.read(|tx| tx.uplinks());
        for uplink in uplinks.as_deref().unwrap_or_default() {
            let _lock = self.fabric.lock(Some(&uplink.namespace));
            let lost = self.fabric.lost.has(&uplink.namespace);
            let tidied = lost.and_then(|lost| if lost { Ok(()) } else { self.fabric.uplinks.tidy(&uplink.namespace) });
            repairs.step(format!("uplink {}", uplink.host_link), tidied);
        }
        repairs.step("uplinks", uplinks.map(drop));
        repairs.step("rules of the host", self.fabric.host_rules.restore());
    }

    /// Restores the host's rules after `iptables -F` or a firewall's reload. Cheap enough for every few seconds.
    pub fn watch_firewall(&self) -> Result<()> {
        self.fabric.host_rules.watch()
    }

    /// Records what the host routes: ciao-ipam, which has no network, chooses no pool there.
    pub(crate) fn note_host_routes(&self) -> Result<()> {
        let found = self.fabric.kernel.host_routes()?;
        let recorded = self.store.read(|tx| tx.host_routes())?;
        let is_same = BTreeSet::from_iter(&found) == BTreeSet::from_iter(&recorded);
        if is_same { Ok(()) } else { self.store.write(move |tx| tx.set_host_routes(&found)) }
    }

    /// Holds the recorded ports again, after a start.
    pub fn resume(&self) -> Result<()> {
        self.fabric.ports.hold_recorded(&self.store.read(|tx| tx.ports())?);
        Ok(())
    }
}
