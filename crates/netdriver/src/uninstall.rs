// SPDX-License-Identifier: Apache-2.0
//! What ciao-net leaves on a host when it is uninstalled: nothing but its database, as far as an administrator wants
//! that and nobody else needs it.

use std::collections::BTreeSet;

use anyhow::Result;
use ciao_common::store::{HostSettingRow, Store};
use ciao_common::types::{Family, LinkName};
use serde::Serialize;

use crate::kernel::{HostSetting, Kernel, Namespace};
use crate::{names, rules};

/// Something of ciao's, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Restored {
    pub(crate) what: String,
    pub(crate) now: String,
}

/// A setting of the host that was changed since it was started.
#[derive(Debug, Serialize)]
pub(crate) struct Changed {
    pub(crate) setting: String,
    pub(crate) before: String,
    pub(crate) after: String,
    /// `-`: it is gone.
    pub(crate) now: String,
    /// UTC.
    pub(crate) since: String,
}

/// The settings of the host that were changed, and their values now.
pub(crate) fn changed(rows: Vec<HostSettingRow>, kernel: &dyn Kernel) -> Result<Vec<Changed>> {
    let read = |row: HostSettingRow| {
        let now = kernel.host_setting(&HostSetting::from(row.name.as_str()))?.unwrap_or_else(|| "-".to_owned());
        Ok(Changed { setting: row.name, before: row.before, after: row.after, now, since: row.changed })
    };
    rows.into_iter().map(read).collect()
}

/// Removes ciao's rules and puts the host's settings back, as far as the database knows them; with `vnics`, tenants'
/// namespaces and links too, except those that containers use. As long as any of those stand, their rules do, and the
/// settings that they need. The daemon does not run.
pub(crate) fn restore(store: Option<&Store>, kernel: &dyn Kernel, vnics: bool) -> Result<Vec<Restored>> {
    let mut done = tenants(store, kernel, vnics)?;
    let left = done.iter().any(|one| one.now != REMOVED);
    if left {
        return Ok(done);
    }
    if kernel.has_rules(&Namespace::Host)? {
        kernel.run_nft(&Namespace::Host, rules::DELETE_HOST_RULES)?;
        done.push(Restored { what: "nftables table inet ciao".to_owned(), now: REMOVED.to_owned() });
    }
    if kernel.tunnel_rules_difference(None)?.is_some() {
        kernel.load_tunnel_rules(None)?;
        done.push(Restored { what: "nftables table inet ciao_tunnel".to_owned(), now: REMOVED.to_owned() });
    }
    for (number, address) in kernel.tunnel_hosts()? {
        kernel.delete_tunnel_host(number)?;
        done.push(Restored { what: format!("nexthop of host {address}"), now: REMOVED.to_owned() });
    }
    kernel.open_firewall(&BTreeSet::new(), &[])?;
    if let Some(store) = store {
        done.extend(settings(store, kernel)?);
    }
    Ok(done)
}

const REMOVED: &str = "removed";

fn tenants(store: Option<&Store>, kernel: &dyn Kernel, remove: bool) -> Result<Vec<Restored>> {
    let of_host = kernel.links(&Namespace::Host)?.into_iter().filter(names::is_ours).collect::<Vec<_>>();
    let mut done = Vec::new();
    let mut kept = BTreeSet::new();
    let mut note = |what: String, used: &[&LinkName]| {
        let now = match (used, remove) {
            ([], true) => REMOVED.to_owned(),
            ([], false) => "left, in use by VNICs or networks: --remove-vnics removes it".to_owned(),
            _ => {
                let names = used.iter().map(|link| link.as_str()).collect::<Vec<_>>().join(", ");
                format!("left, in use by running containers ({names}): stop them first")
            }
        };
        done.push(Restored { what, now });
    };
    for name in kernel.namespaces()? {
        let links = kernel.links(&Namespace::Named(name.clone()))?;
        let used = links.iter().filter(|link| is_used(link, &of_host)).collect::<Vec<_>>();
        if remove && used.is_empty() {
            kernel.delete_namespace(&name)?;
        }
        note(format!("network namespace {name}"), &used);
        kept.extend(used.into_iter().cloned());
    }
    let some_stay = !kept.is_empty();
    for link in &of_host {
        let used = if is_used(link, &of_host) { vec![link] } else { Vec::new() };
        // The uplink of a namespace that stays.
        if remove && some_stay && link.as_str().starts_with(names::UPLINK) {
            continue;
        }
        if remove && used.is_empty() {
            kernel.delete_link(&Namespace::Host, link)?;
        }
        note(format!("link {link}"), &used);
        kept.extend(used.into_iter().cloned());
    }
    if remove && let Some(store) = store {
        store.write(move |tx| {
            let vnics = tx.vnics(None)?;
            let unused = vnics.iter().filter(|vnic| !kept.contains(&vnic.host_link));
            unused.into_iter().try_for_each(|vnic| tx.delete_vnic(&vnic.id).map(drop))
        })?;
    }
    Ok(done)
}

/// Whether it is the end on a bridge of a VNIC whose other end a container has.
fn is_used(link: &LinkName, of_host: &[LinkName]) -> bool {
    let Some(id) = link.as_str().strip_prefix(names::HOST_LINK).filter(|_| names::is_ours(link)) else { return false };
    let other_end = format!("{}{id}", names::CONTAINER_LINK);
    !of_host.iter().any(|link| link.as_str() == other_end)
}

/// Forwarding goes off first, then what it needed, and what changes with it.
fn settings(store: &Store, kernel: &dyn Kernel) -> Result<Vec<Restored>> {
    let boot = kernel.boot_id()?;
    let mut rows = store.read(|tx| tx.host_settings(&boot))?;
    rows.sort_by_key(|row| !["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"].contains(&row.name.as_str()));
    let used = (kernel.is_firewall_used(Family::V4)?, kernel.is_firewall_used(Family::V6)?);
    let read = |row: HostSettingRow| {
        let setting = HostSetting::from(row.name.as_str());
        Ok((kernel.host_setting(&setting)?, setting, row))
    };
    let mut done = Vec::new();
    for (now, setting, row) in rows.into_iter().map(read).collect::<Result<Vec<_>>>()? {
        let used = if family_of(&setting) == Family::V4 { used.0 } else { used.1 };
        let now = match now {
            Some(now) if now != row.after => format!("left at {now}: changed by something else since"),
            Some(_) if used => format!(
                "left at {}: the host's firewall has rules in FORWARD, so others may need it. To restore it manually: {}",
                row.after,
                by_hand(&row.name, &setting, &row.before)
            ),
            Some(_) => {
                kernel.set_host_setting(&setting, &row.before)?;
                format!("restored to {}", row.before)
            }
            None => "gone".to_owned(),
        };
        let name = row.name.clone();
        store.write(move |tx| tx.delete_host_setting(&name))?;
        done.push(Restored { what: row.name, now });
    }
    Ok(done)
}

fn by_hand(name: &str, setting: &HostSetting, before: &str) -> String {
    match setting {
        HostSetting::Sysctl(_) => format!("sysctl {name}={before}"),
        HostSetting::ForwardPolicy(_) => format!("{name} {before}"),
    }
}

fn family_of(setting: &HostSetting) -> Family {
    match setting {
        HostSetting::ForwardPolicy(family) => *family,
        HostSetting::Sysctl(key) if key.starts_with("net/ipv6/") => Family::V6,
        HostSetting::Sysctl(_) => Family::V4,
    }
}
