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

/// What became of something of ciao's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Restored,
    Left,
    Failed,
}

/// Something of ciao's, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Restored {
    pub(crate) what: String,
    pub(crate) now: String,
    #[serde(skip)]
    pub(crate) outcome: Outcome,
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

/// What is restored. What fails keeps nothing of the rest.
#[derive(Default)]
struct Report(Vec<Restored>);

impl Report {
    fn add(&mut self, what: impl Into<String>, now: impl Into<String>, outcome: Outcome) {
        self.0.push(Restored { what: what.into(), now: now.into(), outcome });
    }

    /// Removes something; `false`: it is not there.
    fn remove(&mut self, what: impl Into<String>, remove: impl FnOnce() -> Result<bool>) {
        match remove() {
            Ok(false) => {}
            Ok(true) => self.add(what, "removed", Outcome::Restored),
            Err(error) => self.add(what, format!("left: {error:#}"), Outcome::Failed),
        }
    }

    /// Removes a namespace or link, if that is wanted and no container uses it.
    fn tidy(&mut self, what: String, used: &[LinkName], wanted: bool, delete: impl FnOnce() -> Result<()>) {
        if !used.is_empty() {
            let names = used.iter().map(LinkName::as_str).collect::<Vec<_>>().join(", ");
            let now = format!("left, in use by running containers ({names}): stop them first");
            self.add(what, now, Outcome::Left);
        } else if wanted {
            self.remove(what, || delete().map(|()| true));
        } else {
            self.add(what, "left, in use by VNICs or networks: --remove-vnics removes it", Outcome::Left);
        }
    }

    /// Does what has rows of its own.
    fn step(&mut self, what: &str, step: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = step(self) {
            self.add(what, format!("left: {error:#}"), Outcome::Failed);
        }
    }

    fn is_all_restored(&self) -> bool {
        self.0.iter().all(|one| one.outcome == Outcome::Restored)
    }
}

/// Removes ciao's rules and puts the host's settings back, as far as the database knows them; with `vnics`, tenants'
/// namespaces and links too, except those that containers use. As long as any of those stand, their rules do, and the
/// settings that they need. The daemon does not run.
pub(crate) fn restore(store: Option<&Store>, kernel: &dyn Kernel, vnics: bool) -> Vec<Restored> {
    let mut report = Report::default();
    report.step("network namespaces and links", |report| tenants(store, kernel, vnics, report));
    if !report.is_all_restored() {
        return report.0;
    }
    report.remove("nftables table inet ciao", || {
        let exists = kernel.has_rules(&Namespace::Host)?;
        if exists { kernel.run_nft(&Namespace::Host, rules::DELETE_HOST_RULES).map(|()| true) } else { Ok(false) }
    });
    report.remove("nftables table inet ciao_tunnel", || {
        let exists = kernel.tunnel_rules_difference(None)?.is_some();
        if exists { kernel.load_tunnel_rules(None).map(|_| true) } else { Ok(false) }
    });
    report.step("nexthops of other hosts", |report| {
        for (number, address) in kernel.tunnel_hosts()? {
            report.remove(format!("nexthop of host {address}"), || kernel.delete_tunnel_host(number).map(|()| true));
        }
        Ok(())
    });
    report.remove("rules of the host's firewall", || kernel.open_firewall(&BTreeSet::new(), &[]).map(|_| false));
    if let Some(store) = store {
        report.step("settings of the host", |report| settings(store, kernel, report));
    }
    report.0
}

fn tenants(store: Option<&Store>, kernel: &dyn Kernel, remove: bool, report: &mut Report) -> Result<()> {
    let of_host: BTreeSet<_> = kernel.links(&Namespace::Host)?.into_iter().filter(names::is_ours).collect();
    let mut kept = BTreeSet::new();
    for name in kernel.namespaces()? {
        let what = format!("network namespace {name}");
        match kernel.links(&Namespace::Named(name.clone())) {
            Ok(mut used) => {
                used.retain(|link| names::is_in_container(link, &of_host));
                report.tidy(what, &used, remove, || kernel.delete_namespace(&name));
                kept.extend(used);
            }
            Err(error) => report.add(what, format!("left: {error:#}"), Outcome::Failed),
        }
    }
    let some_stay = !report.is_all_restored();
    for link in &of_host {
        // The uplink of a namespace that stays.
        if remove && some_stay && link.as_str().starts_with(names::UPLINK) {
            continue;
        }
        let used: Vec<_> =
            Some(link.clone()).filter(|link| names::is_in_container(link, &of_host)).into_iter().collect();
        report.tidy(format!("link {link}"), &used, remove, || kernel.delete_link(&Namespace::Host, link));
        kept.extend(used);
    }
    let has_failed = report.0.iter().any(|one| one.outcome == Outcome::Failed);
    if remove
        && !has_failed
        && let Some(store) = store
    {
        store.write(move |tx| {
            let vnics = tx.vnics(None)?;
            let unused = vnics.iter().filter(|vnic| !kept.contains(&vnic.host_link));
            unused.into_iter().try_for_each(|vnic| tx.delete_vnic(&vnic.id).map(drop))
        })?;
    }
    Ok(())
}

/// Forwarding goes off first, then what it needed, and what changes with it.
fn settings(store: &Store, kernel: &dyn Kernel, report: &mut Report) -> Result<()> {
    let boot = kernel.boot_id()?;
    let mut rows = store.read(|tx| tx.host_settings(&boot))?;
    rows.sort_by_key(|row| !["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"].contains(&row.name.as_str()));
    let used = (kernel.is_firewall_used(Family::V4)?, kernel.is_firewall_used(Family::V6)?);
    // All are read before any is changed: one changes others.
    let read = |row: HostSettingRow| {
        let setting = HostSetting::from(row.name.as_str());
        (kernel.host_setting(&setting), setting, row)
    };
    for (now, setting, row) in rows.into_iter().map(read).collect::<Vec<_>>() {
        let (what, used) = (row.name.clone(), if family_of(&setting) == Family::V4 { used.0 } else { used.1 });
        report.step(&what, |report| {
            let (now, outcome) = match now? {
                Some(now) if now != row.after => {
                    (format!("left at {now}: changed by something else since"), Outcome::Left)
                }
                Some(_) if used => {
                    let by_hand = by_hand(&row.name, &setting, &row.before);
                    let why = "the host's firewall has rules in FORWARD, so others may need it";
                    (format!("left at {}: {why}. To restore it manually: {by_hand}", row.after), Outcome::Left)
                }
                Some(_) => {
                    kernel.set_host_setting(&setting, &row.before)?;
                    (format!("restored to {}", row.before), Outcome::Restored)
                }
                None => ("gone".to_owned(), Outcome::Restored),
            };
            store.write(move |tx| tx.delete_host_setting(&row.name))?;
            report.add(what.as_str(), now, outcome);
            Ok(())
        });
    }
    Ok(())
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

#[cfg(test)]
mod tests;
