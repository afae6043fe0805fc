// SPDX-License-Identifier: Apache-2.0
//! Table `host_setting`: settings of the host that ciao-net changed since the host's boot.

use anyhow::Result;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::Tx;

/// A changed setting of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSettingRow {
    /// Name, as for `sysctl` or `iptables`.
    pub name: String,
    /// Previous value.
    pub before: String,
    /// New value.
    pub after: String,
    /// Time of the change, UTC.
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
    /// The settings changed since this boot of the host, in any order.
    pub fn host_settings(&self, boot: &str) -> Result<Vec<HostSettingRow>> {
        self.all(
            "SELECT name, before, after, strftime('%Y-%m-%dT%H:%M:%SZ', changed / 1000, 'unixepoch') AS changed FROM host_setting WHERE boot = ?1",
            [boot],
            setting,
        )
    }

    /// Records the change of a setting. A repeated change in the same boot keeps the original value.
    pub fn record_host_setting(&self, boot: &str, name: &str, before: &str, after: &str) -> Result<()> {
        self.change(
            "INSERT INTO host_setting (name, before, after, boot, changed) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET before = iif(boot = excluded.boot, before, excluded.before),
                 after = excluded.after, boot = excluded.boot, changed = excluded.changed",
            params![name, before, after, boot, self.now()],
        )
    }

    /// Deletes a setting that was restored.
    pub fn delete_host_setting(&self, name: &str) -> Result<()> {
        self.change("DELETE FROM host_setting WHERE name = ?1", [name])
    }
}
