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
mod stale;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use ciao_common::store::{Endpoint, Owner, Vnic};
use ciao_common::sync::lock;
use ciao_common::types::{EndpointId, NetworkId, VnicId};
use serde::{Deserialize, Serialize};

use crate::Driver;
pub use known::{Known, Recorded};
pub use watch::Watcher;

/// After this time an endpoint has joined, or its call has failed.
pub const SETTLED: Duration = Duration::from_secs(60);

/// How many namespaces are compared at a time: most of that is nft's work, and waiting for the kernel.
const AT_ONCE: usize = 4;

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

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Repair {
    /// `create`, `restore`, `delete`, `remove` or `record` (a record), `check`, or `restart`, which is left to the
    /// administrator.
    pub action: String,
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
    /// Why it could not be done.
    #[serde(default)]
    pub error: Option<String>,
}

/// Makes repairs, unless it is a dry run, and collects them. One that fails is a row with an error; the others
/// continue.
struct Repairs<'a> {
    driver: &'a Driver,
    dry: bool,
    done: Vec<Repair>,
    /// What a dry run would have forgotten: the rest of it goes on without.
    forgotten: Forgotten,
}

/// Records that are forgotten.
#[derive(Clone, Default)]
struct Forgotten {
    networks: BTreeSet<NetworkId>,
    endpoints: BTreeSet<EndpointId>,
    vnics: BTreeSet<VnicId>,
}

impl Forgotten {
    /// An endpoint, and with it a VNIC of Docker's.
    fn add(&mut self, endpoint: &Endpoint, vnic: Option<&Vnic>) {
        self.endpoints.insert(endpoint.id.clone());
        self.vnics.extend(vnic.filter(|vnic| vnic.owner == Owner::Docker).map(|vnic| vnic.id.clone()));
    }
}

impl<'a> Repairs<'a> {
    fn new(driver: &'a Driver, dry: bool) -> Self {
        Self { driver, dry, done: Vec::new(), forgotten: Forgotten::default() }
    }

    /// Does the same for each of `all`, several at a time. Their repairs follow each other in the order of `all`.
    fn each<T: Sync>(&mut self, all: &[T], act: impl Fn(&mut Self, &T) + Sync) {
        let (next, rows) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(one) = all.get(index) else { return };
                let forgotten = self.forgotten.clone();
                let mut repairs = Self { driver: self.driver, dry: self.dry, done: Vec::new(), forgotten };
                act(&mut repairs, one);
                lock(&rows).insert(index, repairs.done);
            }
        };
        thread::scope(|scope| {
            (1..AT_ONCE.min(all.len())).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.done.extend(rows.into_values().flatten());
    }

    /// Makes one repair, unless nothing is left to do: then `act` returns `false`. Returns whether it succeeded.
    fn repair(
        &mut self,
        action: &str,
        what: impl ToString,
        why: &str,
        act: impl FnOnce(&Driver) -> Result<bool>,
    ) -> bool {
        let what = what.to_string();
        if self.dry {
            self.add(action, what, why, None);
            return true;
        }
        match act(self.driver) {
            Ok(false) => true,
            Ok(true) => {
                log::info!("reconcile: {action} {what}: {why}");
                self.add(action, what, why, None);
                true
            }
            Err(error) => {
                self.fail(action, what, why, &error);
                false
            }
        }
    }

    /// A step of the pass itself, such as a list. Its error is a row.
    fn step(&mut self, what: impl ToString, result: Result<()>) {
        if let Err(error) = result {
            self.fail("check", what.to_string(), "comparison with the database failed", &error);
        }
    }

    fn fail(&mut self, action: &str, what: String, why: &str, error: &anyhow::Error) {
        let error = format!("{error:#}");
        // The timer finds it again and again.
        if self.dry || self.driver.failures.note(format!("{action} {what}: {error}")) {
            log::warn!("reconcile: {action} {what}: {why}: {error}");
        }
        self.add(action, what, why, Some(error));
    }

    fn has_failed(&self) -> bool {
        self.done.iter().any(|row| row.error.is_some())
    }

    fn add(&mut self, action: &str, what: String, why: &str, error: Option<String>) {
        self.done.push(Repair { action: action.to_owned(), what, why: why.to_owned(), error });
    }
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
            self.passes.add(repairs.done.len() - failed, failed, self.store.now());
            self.failures.keep(repairs.done.iter().filter_map(failing));
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
