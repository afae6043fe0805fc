// SPDX-License-Identifier: Apache-2.0
//! Table `host_setting`: what ciao-net changed of the host's own settings since the host was started.

use anyhow::Result;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::{Tx, now};

/// A setting of the host that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSettingRow {
    /// As `sysctl` or `iptables` take it.
    pub name: String,
    /// Its value before.
    pub before: String,
    /// Its value since.
    pub after: String,
    /// When, UTC.
    pub changed: String,
}

fn setting(row: &Row<'_>) -> rusqlite::Result<HostSettingRow> {
    Ok(HostSettingRow {
        name: row.get("name")?,
        before: row.get("before")?,
        after: row.get("after")?,
        changed: row.get("changed")?,
    })
}

impl Tx<'_> {
    /// The settings that were changed since this boot of the host, in no order.
    ///
    /// # Errors
    /// The disk's.
    pub fn host_settings(&self, boot: &str) -> Result<Vec<HostSettingRow>> {
        self.all(
            "SELECT name, before, after, datetime(changed / 1000, 'unixepoch') AS changed FROM host_setting WHERE boot = ?1",
            [boot],
            setting,
        )
    }

    /// Records that a setting is changed. One that was changed before since this boot keeps what was before that.
    ///
    /// # Errors
    /// The disk's.
    pub fn record_host_setting(&self, boot: &str, name: &str, before: &str, after: &str) -> Result<()> {
        self.change(
            "INSERT INTO host_setting (name, before, after, boot, changed) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET before = iif(boot = excluded.boot, before, excluded.before),
                 after = excluded.after, boot = excluded.boot, changed = excluded.changed",
            params![name, before, after, boot, now()],
        )
        .map(drop)
    }

    /// Forgets a setting that was put back.
    ///
    /// # Errors
    /// The disk's.
    pub fn delete_host_setting(&self, name: &str) -> Result<()> {
        self.change("DELETE FROM host_setting WHERE name = ?1", [name]).map(drop)
    }
}
