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
        changes.extend(self.lost_by_switching_back(family)?);
        changes.push(HostChange { setting: switch, before, after: "1".to_owned() });
        Ok(changes)
    }

    /// Of links that ignore router advertisements while the host forwards, and those to come (`default`).
    fn missing_advertisements(&self) -> Result<Vec<HostChange>> {
        let mut changes = Vec::new();
        for link in links("net/ipv6/conf")? {
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

impl Linux {
    /// What the kernel changes when forwarding is enabled and disabled again (inet_forward_change,
    /// dev_forward_change): each link forwards no longer, and redirects are accepted. Recorded as they are.
    fn lost_by_switching_back(&self, family: Family) -> Result<Vec<HostChange>> {
        let folder = match family {
            Family::V4 => "net/ipv4/conf",
            Family::V6 => "net/ipv6/conf",
        };
        let mut settings: Vec<_> =
            links(folder)?.into_iter().map(|link| (format!("{folder}/{link}/forwarding"), "1")).collect();
        if family == Family::V4 {
            settings.push((format!("{folder}/all/accept_redirects"), "0"));
        }
        let mut kept = Vec::new();
        for (key, value) in settings {
            let setting = HostSetting::Sysctl(key);
            if self.host_setting(&setting)?.as_deref() == Some(value) {
                kept.push(HostChange { setting, before: value.to_owned(), after: value.to_owned() });
            }
        }
        Ok(kept)
    }
}

/// The host's own links that have settings in a folder, and `default`, which those to come have.
fn links(folder: &str) -> Result<Vec<String>> {
    let folder = path(folder);
    let entries = existing(fs::read_dir(&folder)).with_context(|| format!("read {}", folder.display()))?;
    let links = entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    // `all` is not a link.
    Ok(links.filter(|link| link != "all" && !link.parse().is_ok_and(|link| names::is_ours(&link))).collect())
}

fn path(key: &str) -> PathBuf {
    Path::new(SYSCTLS).join(key)
}
