// SPDX-License-Identifier: Apache-2.0
//! What the kernel reports as deleted is restored within seconds; all is compared with the records on a timer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Depth;
use crate::Driver;
use crate::kernel::Namespace;
use crate::kernel::state::{Changes, Watch};

/// How often links that change all the time are checked. A tenant's rules do not wait.
const LINKS_EVERY: Duration = Duration::from_secs(1);
/// How often all is checked where the kernel does not report changes, and how soon a repair that failed is tried again.
const WITHOUT_REPORTS: Duration = Duration::from_secs(4);

/// The reports, and when what is due.
pub struct Watcher {
    driver: Arc<Driver>,
    reports: Option<Box<dyn Watch>>,
    /// Reported, and not looked at yet.
    waiting: Changes,
    /// Where a repair failed.
    failed: BTreeSet<Namespace>,
    looked: Instant,
    period: Duration,
    due: Instant,
    /// How far the next pass goes.
    depth: Depth,
}

impl Watcher {
    /// A watcher that also compares everything each `period`.
    pub fn new(driver: Arc<Driver>, period: Duration) -> Self {
        let reports = driver.fabric.kernel.watch();
        let reports = reports
            .inspect_err(|error| log::warn!("{error:#}: changes are detected by polling, within {WITHOUT_REPORTS:?}"));
        let now = Instant::now();
        let (waiting, failed) = (Changes::default(), BTreeSet::new());
        Self {
            driver,
            reports: reports.ok(),
            waiting,
            failed,
            looked: now,
            period,
            due: now + period,
            depth: Depth::Changed,
        }
    }

    /// A watcher that begins with the whole pass of a start.
    pub fn from_start(driver: Arc<Driver>, period: Duration) -> Self {
        Self { due: Instant::now(), depth: Depth::Full, ..Self::new(driver, period) }
    }

    /// Waits a while for something to do, and does it.
    pub fn step(&mut self) -> Result<()> {
        let mut changes = self.wait()?;
        if self.driver.fabric.host_rules.may_have_changed() {
            changes.links.insert(Namespace::Host);
        }
        self.failed.extend(self.driver.restore_changed_rules(&changes.rules));
        self.waiting.merge(changes);
        self.waiting.rules.retain(|namespace| *namespace == Namespace::Host);
        if Instant::now() >= self.due {
            (self.waiting, self.failed) = Default::default();
            self.driver.reconcile(std::mem::replace(&mut self.depth, Depth::Changed));
            self.due = Instant::now() + self.period;
        } else if self.waits().is_some_and(|waits| self.looked.elapsed() >= waits) {
            self.waiting.links.append(&mut self.failed);
            let waiting = std::mem::take(&mut self.waiting);
            self.looked = Instant::now();
            return self.restore(&waiting);
        }
        Ok(())
    }

    fn restore(&mut self, changes: &Changes) -> Result<()> {
        if changes.lost {
            self.driver.reconcile(Depth::Changed);
            return Ok(());
        }
        if changes.routes {
            self.driver.note_host_routes()?;
        }
        let namespaces = changes.links.union(&changes.rules).cloned().collect();
        self.failed = self.driver.restore_changed(&namespaces);
        if namespaces.contains(&Namespace::Host) { self.driver.watch_firewall() } else { Ok(()) }
    }

    /// How long after the last look there is another one; `None`: nothing changed.
    fn waits(&self) -> Option<Duration> {
        match &self.waiting {
            Changes { lost: true, .. } => Some(WITHOUT_REPORTS),
            Changes { links, rules, routes: false, .. } if links.is_empty() && rules.is_empty() => {
                (!self.failed.is_empty()).then_some(WITHOUT_REPORTS)
            }
            _ => Some(LINKS_EVERY),
        }
    }

    fn wait(&mut self) -> Result<Changes> {
        let mut patience = WITHOUT_REPORTS.min(self.due.saturating_duration_since(Instant::now()));
        if let Some(waits) = self.waits() {
            patience = patience.min(waits.saturating_sub(self.looked.elapsed()));
        }
        match &mut self.reports {
            // Another attempt at once would fail at once.
            Some(reports) => reports.wait(patience).inspect_err(|_| std::thread::sleep(WITHOUT_REPORTS)),
            None => {
                std::thread::sleep(patience);
                Ok(Changes { lost: true, ..Changes::default() })
            }
        }
    }
}
