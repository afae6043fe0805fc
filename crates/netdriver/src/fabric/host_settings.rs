// SPDX-License-Identifier: Apache-2.0
//! The host's own settings that tenants need: changed as late as possible, recorded before, and restored by an
//! administrator only (`ciao-net host restore`), because something else may need them then.

use std::sync::{Arc, Once};

use anyhow::{Context, Result};
use ciao_common::store::Store;
use ciao_common::types::Family;

use crate::kernel::{HostChange, HostSetting, Kernel};

/// The settings.
pub(crate) struct HostSettings {
    pub(super) store: Arc<Store>,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) neighbours: Once,
}

const FORWARDING: &str = "networks with egress=nat need forwarding";

/// How many neighbours the kernel has room for, of each family, in all network namespaces together; Docker's overlay
/// driver raises them to the same. The default of 1,024 is used up by one container that sends to absent neighbours.
const NEIGHBOURS: [(&str, u32); 3] = [("gc_thresh3", 65536), ("gc_thresh2", 49152), ("gc_thresh1", 8192)];

impl HostSettings {
    /// Raises the limits of the neighbour table that are lower than tenants need, once. A host that does not permit
    /// that has networks all the same.
    pub(crate) fn ensure_neighbours(&self) {
        self.neighbours.call_once(|| {
            let raised = self.low_limits().and_then(|low| self.change(low, "neighbours of all containers share it"));
            if let Err(error) = raised {
                log::warn!("raise the limits of the neighbour table: {error:#}: see docs/operations.md");
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
        self.change(self.kernel.missing_forwarding(Family::V4)?, FORWARDING)?;
        if v6 { self.change(self.kernel.missing_forwarding(Family::V6)?, FORWARDING) } else { Ok(()) }
    }

    /// Lets links that came after IPv6 forwarding was enabled, or were configured since, accept router advertisements
    /// as before.
    pub(crate) fn ensure_advertisements(&self) -> Result<()> {
        let enabled = self.changed()?.iter().any(|name| name == "net.ipv6.conf.all.forwarding");
        if enabled { self.change(self.kernel.missing_advertisements()?, FORWARDING) } else { Ok(()) }
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

    fn change(&self, changes: Vec<HostChange>, why: &str) -> Result<()> {
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
