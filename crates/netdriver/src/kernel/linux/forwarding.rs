// SPDX-License-Identifier: Apache-2.0
//! Forwarding on the host: what must be set before it is enabled, and is restored when ciao-net is uninstalled.
//!
//! A host that forwards is a router between all its networks unless its firewall closes it. dockerd sets FORWARD's policy
//! to DROP when it switches forwarding on, and only then: whoever is first decides, and ciao-net starts before dockerd.
//! And a host that forwards IPv6 ignores router advertisements, which its own addresses and default route may come from,
//! unless `accept_ra` is 2 (kernel, ip-sysctl).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ciao_common::types::Family;

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
        missing(family)
    }

    fn missing_advertisements(&self) -> Result<Vec<HostChange>> {
        ignoring_links()
    }

    fn host_setting(&self, setting: &HostSetting) -> Result<Option<String>> {
        read(setting)
    }

    fn set_host_setting(&self, setting: &HostSetting, value: &str) -> Result<()> {
        write(setting, value)
    }

    fn boot_id(&self) -> Result<String> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the kernel's boot_id")?;
        Ok(id.trim().to_owned())
    }
}

/// The changes that forwarding of a family needs, in the order in which they are safe; none where the host forwards
/// already, and none in a kernel without the family.
fn missing(family: Family) -> Result<Vec<HostChange>> {
    let switch = HostSetting::Sysctl(key(family).to_owned());
    let Some(before) = read(&switch)?.filter(|value| value == "0") else { return Ok(Vec::new()) };
    let mut changes = Vec::new();
    let policy = HostSetting::ForwardPolicy(family);
    let found = firewall::policy(family)?;
    if found != "DROP" {
        changes.push(HostChange { setting: policy, before: found, after: "DROP".to_owned() });
    }
    if family == Family::V6 {
        changes.extend(ignoring_links()?);
    }
    changes.push(HostChange { setting: switch, before, after: "1".to_owned() });
    Ok(changes)
}

/// Links that ignore router advertisements while the host forwards, and those to come (`default`).
fn ignoring_links() -> Result<Vec<HostChange>> {
    let entries = match fs::read_dir(IPV6_LINKS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {IPV6_LINKS}")),
    };
    let links = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut changes = Vec::new();
    // `all` is not a link.
    for link in links.filter(|link| link != "all" && !link.parse().is_ok_and(|link| names::is_ours(&link))) {
        let setting = HostSetting::Sysctl(format!("net/ipv6/conf/{link}/accept_ra"));
        if let Some(before) = read(&setting)?.filter(|value| value == "1") {
            changes.push(HostChange { setting, before, after: "2".to_owned() });
        }
    }
    Ok(changes)
}

/// The value of a setting; `None` if it does not exist, as of a deleted link.
fn read(setting: &HostSetting) -> Result<Option<String>> {
    match setting {
        HostSetting::ForwardPolicy(family) => firewall::policy(*family).map(Some),
        HostSetting::Sysctl(key) => {
            let path = path(key);
            match fs::read_to_string(&path) {
                Ok(value) => Ok(Some(value.trim().to_owned())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
            }
        }
    }
}

/// Sets it.
fn write(setting: &HostSetting, value: &str) -> Result<()> {
    match setting {
        HostSetting::ForwardPolicy(family) => firewall::set_policy(*family, value),
        HostSetting::Sysctl(key) => {
            let path = path(key);
            fs::write(&path, value).with_context(|| format!("set {} to {value}", path.display()))
        }
    }
}

fn path(key: &str) -> PathBuf {
    Path::new(SYSCTLS).join(key)
}
