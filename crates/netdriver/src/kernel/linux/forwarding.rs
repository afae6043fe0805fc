// SPDX-License-Identifier: Apache-2.0
//! Forwarding on the host: what must be set before it is enabled, and is restored when ciao-net is uninstalled.
//!
//! A host that forwards is a router between all its networks unless its firewall closes it. dockerd sets FORWARD's
//! policy to DROP when it switches forwarding on, and only then: whoever is first decides, and ciao-net starts before
//! dockerd. And a host that forwards IPv6 ignores router advertisements, which its own addresses and default route may
//! come from, unless `accept_ra` is 2 (kernel, ip-sysctl).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ciao_common::types::Family;

use super::file::existing;
use super::{Linux, firewall};
use crate::kernel::{HostChange, HostSetting, HostSettings};
use crate::names;

const SYSCTLS: &str = "/proc/sys";
const IPV6_LINKS: &str = "/proc/sys/net/ipv6/conf";

fn key(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    }
}

impl HostSettings for Linux {
    fn missing_forwarding(&self, family: Family) -> Result<Vec<HostChange>> {
        let switch = HostSetting::Sysctl(key(family).to_owned());
        let Some(before) = self.host_setting(&switch)?.filter(|value| value == "0") else { return Ok(Vec::new()) };
        let mut changes = Vec::new();
        let found = firewall::policy(family)?;
        if found != "DROP" {
            let setting = HostSetting::ForwardPolicy(family);
            changes.push(HostChange { setting, before: found, after: "DROP".to_owned() });
        }
        if family == Family::V6 {
            changes.extend(self.missing_advertisements()?);
        }
        changes.push(HostChange { setting: switch, before, after: "1".to_owned() });
        Ok(changes)
    }

    /// Of links that ignore router advertisements while the host forwards, and those to come (`default`).
    fn missing_advertisements(&self) -> Result<Vec<HostChange>> {
        let entries = existing(fs::read_dir(IPV6_LINKS)).with_context(|| format!("read {IPV6_LINKS}"))?;
        let links = entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut changes = Vec::new();
        // `all` is not a link.
        for link in links.filter(|link| link != "all" && !link.parse().is_ok_and(|link| names::is_ours(&link))) {
            let setting = HostSetting::Sysctl(format!("net/ipv6/conf/{link}/accept_ra"));
            if let Some(before) = self.host_setting(&setting)?.filter(|value| value == "1") {
                changes.push(HostChange { setting, before, after: "2".to_owned() });
            }
        }
        Ok(changes)
    }

    fn host_setting(&self, setting: &HostSetting) -> Result<Option<String>> {
        match setting {
            HostSetting::ForwardPolicy(family) => firewall::policy(*family).map(Some),
            HostSetting::Sysctl(key) => {
                let path = path(key);
                let value = existing(fs::read_to_string(&path)).with_context(|| format!("read {}", path.display()))?;
                Ok(value.map(|value| value.trim().to_owned()))
            }
        }
    }

    fn set_host_setting(&self, setting: &HostSetting, value: &str) -> Result<()> {
        match setting {
            HostSetting::ForwardPolicy(family) => firewall::set_policy(*family, value),
            HostSetting::Sysctl(key) => {
                let path = path(key);
                fs::write(&path, value).with_context(|| format!("set {} to {value}", path.display()))
            }
        }
    }

    fn boot_id(&self) -> Result<String> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the kernel's boot_id")?;
        Ok(id.trim().to_owned())
    }
}

fn path(key: &str) -> PathBuf {
    Path::new(SYSCTLS).join(key)
}
