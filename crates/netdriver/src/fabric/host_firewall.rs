// SPDX-License-Identifier: Apache-2.0
//! What the host's firewall accepts for ciao according to the records: traffic of tenants' uplinks, and frames on
//! bridges of the host.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use ciao_common::store::Store;
use ciao_common::sync::lock;
use ciao_common::types::LinkName;

use super::host_settings::HostSettings;
use super::lost::Lost;
use crate::kernel::{FirewallOpening, Kernel, Namespace};
use crate::names;

/// Whether version 0.1.0 left rules in chains of others.
const FORMER_RULES: &str = "former_rules";

/// ciao's part of the host's firewall.
pub(crate) struct HostFirewall {
    store: Arc<Store>,
    kernel: Arc<dyn Kernel>,
    pub(super) settings: Arc<HostSettings>,
    lost: Arc<Lost>,
    /// The host's rule that drops tenants' traffic, as last found. Held while the firewall is changed.
    final_rule: Mutex<Option<String>>,
}

impl HostFirewall {
    pub(super) fn new(
        store: Arc<Store>,
        kernel: Arc<dyn Kernel>,
        settings: Arc<HostSettings>,
        lost: Arc<Lost>,
    ) -> Self {
        Self { store, kernel, settings, lost, final_rule: Mutex::default() }
    }

    /// Accepts what the records need, or what is there while some are lost, and frames on `bridge`, whose record may
    /// not be written yet; nothing else of ciao's.
    pub(crate) fn sync(&self, bridge: Option<&LinkName>) -> Result<()> {
        let mut known = lock(&self.final_rule);
        let mut openings: BTreeSet<_> = bridge.cloned().map(FirewallOpening::Bridge).into_iter().collect();
        let (bridges, uplinks) = self.store.read(|tx| Ok((tx.host_bridges()?, tx.uplinks()?)))?;
        openings.extend(bridges.into_iter().map(FirewallOpening::Bridge));
        let mut has_uplinks = !uplinks.is_empty();
        if self.lost.is_any() {
            let host = self.kernel.look(&Namespace::Host)?.unwrap_or_default();
            has_uplinks |= host.links.keys().any(|link| link.as_str().starts_with(names::UPLINK));
            let ports = host.links.into_iter().filter(|(name, _)| names::is_host_link(name));
            openings.extend(ports.filter_map(|(_, port)| port.bridge).map(FirewallOpening::Bridge));
        }
        if has_uplinks {
            openings.insert(FirewallOpening::Uplinks);
        }
        let found = self.kernel.open_firewall(&openings, &self.settings.closed_families()?)?;
        // Once: what has the same words later is an administrator's.
        if self.store.read(|tx| tx.setting(FORMER_RULES))?.as_deref() == Some("1") {
            self.kernel.delete_former_rules()?;
            self.store.write(|tx| tx.set_setting(FORMER_RULES, "0"))?;
        }
        let found = found.filter(|_| !openings.is_empty());
        if let Some(rule) = found.as_ref().filter(|_| *known != found) {
            log::warn!(
                "the host's firewall drops tenants' traffic with its rule `{rule}`: accept interfaces cu+ before it"
            );
        }
        *known = found;
        Ok(())
    }
}
