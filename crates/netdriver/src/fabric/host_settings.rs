// SPDX-License-Identifier: Apache-2.0
//! The host's own settings that tenants need: changed as late as possible, recorded before, and restored by an
//! administrator only (`ciao-net host restore`), because something else may need them then.

use std::sync::{Arc, Mutex, Once};

use anyhow::{Context, Result};
use ciao_common::store::Store;
use ciao_common::sync::lock;
use ciao_common::types::Family;

use crate::kernel::{HostChange, HostSetting, Kernel};

/// The settings.
pub(crate) struct HostSettings {
    pub(super) store: Arc<Store>,
    pub(super) kernel: Arc<dyn Kernel>,
    neighbours: Once,
    /// Held from the look at a setting to its change: a call and the pass after it would both change it otherwise.
    changing: Mutex<()>,
}

const FORWARDING: &str = "networks with egress=nat need forwarding";

/// How many neighbours the kernel has room for, of each family, in all network namespaces together; Docker's overlay
/// driver raises them to the same. The default of 1,024 is used up by one container that sends to absent neighbours.
const NEIGHBOURS: [(&str, u32); 3] = [("gc_thresh3", 65536), ("gc_thresh2", 49152), ("gc_thresh1", 8192)];

impl HostSettings {
    pub(super) fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>) -> Self {
        Self { store, kernel, neighbours: Once::new(), changing: Mutex::default() }
    }

    /// Raises the limits of the neighbour table that are lower than tenants need, once. A host that does not permit
    /// that has networks all the same.
    pub(crate) fn ensure_neighbours(&self) {
        self.neighbours.call_once(|| {
            if let Err(error) = self.change(|| self.low_limits(), "neighbours of all containers share it") {
                log::warn!("raise the limits of the neighbour table: {error:#}: see docs/egress.md");
            }
        });
    }

    fn low_limits(&self) -> Result<Vec<HostChange>> {
        let mut low = Vec::new();
        for family in ["ipv4", "ipv6"] {
            for (name, wanted) in NEIGHBOURS {
                let setting = HostSetting::Sysctl(format!("net/{family}/neigh/default/{name}"));
                // Not there: the kernel has no IPv6, or this is not its first network namespace.
                let before = self.kernel.host_setting(&setting)?;
                if let Some(before) = before.filter(|found| found.parse::<u32>().is_ok_and(|found| found < wanted)) {
                    low.push(HostChange { setting, before, after: wanted.to_string() });
                }
            }
        }
        Ok(low)
    }

    /// Makes the host forward, IPv6 only where a tenant has it; never as an open router, unless it was one before.
    pub(crate) fn ensure_forwarding(&self, v6: bool) -> Result<()> {
        let enable = |family| self.change(|| self.kernel.missing_forwarding(family), FORWARDING);
        enable(Family::V4)?;
        if v6 { enable(Family::V6) } else { Ok(()) }
    }

    /// Lets links that came after IPv6 forwarding was enabled, or were configured since, accept router advertisements
    /// as before.
    pub(crate) fn ensure_advertisements(&self) -> Result<()> {
        let enabled = self.changed()?.iter().any(|name| name == "net.ipv6.conf.all.forwarding");
        if enabled { self.change(|| self.kernel.missing_advertisements(), FORWARDING) } else { Ok(()) }
    }

    /// The families whose FORWARD policy ciao-net has set to DROP.
    pub(crate) fn closed_families(&self) -> Result<Vec<Family>> {
        let changed = self.changed()?;
        let is_closed = |family: &Family| changed.contains(&HostSetting::ForwardPolicy(*family).to_string());
        Ok([Family::V4, Family::V6].into_iter().filter(is_closed).collect())
    }

    /// The names of the settings that were changed since this boot.
    fn changed(&self) -> Result<Vec<String>> {
        let boot = self.kernel.boot_id()?;
        Ok(self.store.read(|tx| tx.host_settings(&boot))?.into_iter().map(|row| row.name).collect())
    }

    fn change(&self, missing: impl FnOnce() -> Result<Vec<HostChange>>, why: &str) -> Result<()> {
        let _changing = lock(&self.changing);
        let changes = missing()?;
        if changes.is_empty() {
            return Ok(());
        }
        let (boot, recorded) = (self.kernel.boot_id()?, changes.clone());
        self.store.write(move |tx| {
            let record = |change: &HostChange| {
                tx.record_host_setting(&boot, &change.setting.to_string(), &change.before, &change.after)
            };
            recorded.iter().try_for_each(record)
        })?;
        for HostChange { setting, before, after } in changes.into_iter().filter(|one| one.before != one.after) {
            self.kernel.set_host_setting(&setting, &after).with_context(|| format!("change {setting}"))?;
            log::warn!("{setting} changed from {before} to {after}: {why}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::kernel::fake::Fake;
    use crate::kernel::{HostSettings as _, Namespace};

    #[test]
    fn what_another_thread_is_changing_is_not_changed_a_second_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("db")).unwrap());
        let kernel = Arc::new(Fake::default());
        let stop_forwarding = || {
            kernel.change(|state| {
                state.not_forwarding.insert(Namespace::Host);
            });
        };
        stop_forwarding();
        let settings = HostSettings::new(store.clone(), kernel.clone());
        let changed = || store.read(|tx| tx.host_settings("this")).unwrap().len();
        thread::scope(|scope| {
            let changing = lock(&settings.changing);
            let second = scope.spawn(|| settings.ensure_forwarding(false));
            // Long enough for a look at the setting.
            thread::sleep(Duration::from_millis(50));
            let forwarding = HostSetting::Sysctl("net/ipv4/ip_forward".to_owned());
            kernel.set_host_setting(&forwarding, "1").unwrap();
            drop(changing);
            second.join().unwrap().unwrap();
        });
        assert_eq!(changed(), 0);
        stop_forwarding();
        settings.ensure_forwarding(false).unwrap();
        assert_eq!(changed(), 1);
    }
}
