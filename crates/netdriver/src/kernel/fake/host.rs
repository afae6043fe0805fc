// SPDX-License-Identifier: Apache-2.0
//! The host of the double: its firewall, settings, ports and guard.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use anyhow::Result;
use ciao_common::types::Family;

use super::Fake;
use crate::kernel::element::Element;
use crate::kernel::{Firewall, FirewallOpening, HostChange, HostGuard, HostSetting, HostSettings, Namespace, Ports};

impl Firewall for Fake {
    fn open_firewall(&self, openings: &BTreeSet<FirewallOpening>, _drop: &[Family]) -> Result<Option<String>> {
        self.firewall_looks.fetch_add(1, Ordering::Relaxed);
        self.changing()?.openings.clone_from(openings);
        Ok(None)
    }

    fn delete_former_rules(&self) -> Result<()> {
        self.changing().map(drop)
    }

    fn is_firewall_used(&self, _family: Family) -> Result<bool> {
        Ok(false)
    }
}

/// Forwarding alone.
impl HostSettings for Fake {
    fn missing_forwarding(&self, _family: Family) -> Result<Vec<HostChange>> {
        let setting = HostSetting::Sysctl("net/ipv4/ip_forward".to_owned());
        let change = || HostChange { setting, before: "0".to_owned(), after: "1".to_owned() };
        let forwards = !self.reading()?.not_forwarding.contains(&Namespace::Host);
        Ok((!forwards).then(change).into_iter().collect())
    }

    fn missing_advertisements(&self) -> Result<Vec<HostChange>> {
        Ok(Vec::new())
    }

    fn host_setting(&self, setting: &HostSetting) -> Result<Option<String>> {
        if setting.to_string().contains("neigh") {
            return Ok(None);
        }
        Ok(Some(if self.reading()?.not_forwarding.contains(&Namespace::Host) { "0" } else { "1" }.to_owned()))
    }

    fn set_host_setting(&self, _setting: &HostSetting, value: &str) -> Result<()> {
        let mut state = self.changing()?;
        if value == "1" {
            state.not_forwarding.remove(&Namespace::Host);
        } else {
            state.not_forwarding.insert(Namespace::Host);
        }
        Ok(())
    }

    fn boot_id(&self) -> Result<String> {
        Ok("this".to_owned())
    }
}

impl Ports for Fake {}

impl HostGuard for Fake {
    fn guard_host(&self, _filter: &str, _elements: &[Element]) -> Result<()> {
        self.changing().map(drop)
    }

    fn is_host_guarded(&self) -> bool {
        false
    }

    fn unguard_host(&self) {}
}
