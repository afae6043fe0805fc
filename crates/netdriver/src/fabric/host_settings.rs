// SPDX-License-Identifier: Apache-2.0
//! The host's own settings that uplinks need: changed as late as possible, recorded before they are, and put back by an
//! administrator alone (`ciao-net host restore`), because somebody else may need them by then.

use std::sync::Arc;

use anyhow::{Context, Result};
use ciao_common::store::Store;
use ciao_common::types::Family;

use crate::kernel::{HostChange, HostSetting, Kernel};

/// The settings.
pub(crate) struct HostSettings {
    store: Arc<Store>,
    kernel: Arc<dyn Kernel>,
}

impl HostSettings {
    pub(super) fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>) -> Self {
        Self { store, kernel }
    }

    /// Makes the host forward, IPv6 only where a tenant has it; never as an open router, unless it was one before.
    /// `true`: something was changed.
    pub(crate) fn ensure_forwarding(&self, v6: bool) -> Result<bool> {
        let mut changed = false;
        for family in [Some(Family::V4), v6.then_some(Family::V6)].into_iter().flatten() {
            let missing = self.kernel.missing_forwarding(family)?;
            changed |= !missing.is_empty();
            self.change(missing)?;
        }
        Ok(changed)
    }

    /// Lets links that came after IPv6 forwarding was enabled, or were configured since, accept router advertisements as
    /// before.
    pub(crate) fn ensure_advertisements(&self) -> Result<()> {
        let enabled = self.changed()?.iter().any(|name| name == "net.ipv6.conf.all.forwarding");
        if enabled { self.change(self.kernel.missing_advertisements()?) } else { Ok(()) }
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

    fn change(&self, changes: Vec<HostChange>) -> Result<()> {
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
        for HostChange { setting, before, after } in changes {
            self.kernel.set_host_setting(&setting, &after).context("make the host forward")?;
            log::warn!("{setting} was {before}: set to {after}, because networks with egress=nat need forwarding");
        }
        Ok(())
    }
}
