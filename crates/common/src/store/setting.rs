// SPDX-License-Identifier: Apache-2.0
//! Table `setting`: settings of the host and the database.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rusqlite::params;

use super::Tx;
use crate::types::{PoolDescription, Subnet, random_hex};

/// The setting with this database's name; followed by an earlier name: the last row created under that name.
const DATABASE: &str = "database";

/// The setting with the id of the engine whose networks are recorded.
const ENGINE: &str = "engine";

/// The settings with the time at which a pool of a subnet was last released; followed by the subnet.
const RELEASED: &str = "released ";
/// How long they are kept: longer than a list of Docker's takes.
const RELEASED_KEPT: Duration = Duration::from_secs(3600);

impl Tx<'_> {
    /// The value of a setting, set to `fresh` if it is missing.
    pub fn setting_or(&self, name: &str, fresh: &str) -> Result<String> {
        self.change("INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING", params![name, fresh])?;
        self.first("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))?
            .with_context(|| format!("setting {name} is missing"))
    }

    /// The value of a setting.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        self.first("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))
    }

    /// Sets a value.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        self.change("INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)", params![name, value])
    }

    /// The database's name in new PoolIDs.
    pub fn database(&self) -> Result<String> {
        self.setting_or(DATABASE, &random_hex::<4>())
    }

    /// Gives the database a new name, at every start: this may be an older copy, so ids made under the old name may
    /// exist that are not recorded here. The last row created under the old name is kept.
    pub fn rename_database(&self) -> Result<()> {
        let (last, known) = (self.last_pool_row()?, self.last_named_row()?);
        if let Some(before) = self.setting(DATABASE)?.filter(|_| last > known) {
            self.set_setting(&format!("{DATABASE} {before}"), &last.to_string())?;
        }
        self.set_setting(DATABASE, &random_hex::<4>())
    }

    /// The last row that was created under a former name; 0: none.
    fn last_named_row(&self) -> Result<i64> {
        let newest = "SELECT max(CAST(value AS INTEGER)) FROM setting WHERE name LIKE ?1";
        Ok(self.first(newest, [format!("{DATABASE} %")], |row| row.get::<_, Option<i64>>(0))?.flatten().unwrap_or(0))
    }

    /// Whether this database created the pool, so that it was released if it is not recorded.
    pub fn was_released(&self, pool: &PoolDescription) -> Result<bool> {
        let last = match self.setting(&format!("{DATABASE} {}", pool.database))? {
            Some(last) => last.parse().unwrap_or(i64::MAX),
            None if pool.database == self.database()? => self.last_pool_row()?,
            None => 0,
        };
        Ok(pool.row <= last)
    }

    /// Records that a pool of a subnet is released.
    pub(super) fn note_release(&self, subnet: Subnet) -> Result<()> {
        self.change(
            "DELETE FROM setting WHERE name BETWEEN ?1 AND ?1 || '~' AND CAST(value AS INTEGER) < ?2",
            params![RELEASED, self.ago(RELEASED_KEPT)],
        )?;
        self.set_setting(&format!("{RELEASED}{subnet}"), &self.now().to_string())
    }

    /// Whether a pool of a subnet was released since a time: Docker's list may be older, and have its network still.
    pub fn is_released_since(&self, subnet: Subnet, time: i64) -> Result<bool> {
        let released = self.setting(&format!("{RELEASED}{subnet}"))?;
        Ok(released.is_some_and(|at| at.parse().is_ok_and(|at: i64| at >= time)))
    }

    /// Records the id of the engine whose networks are recorded.
    pub fn set_engine(&self, engine: &str) -> Result<()> {
        self.set_setting(ENGINE, engine)
    }

    /// Whether a list of an engine's networks is strange, and taken all the same, by `force`: it is not of the engine
    /// whose networks are recorded, or has `none` of the records.
    ///
    /// # Errors
    /// It is strange, without `force`.
    pub fn check_list(&self, engine: Option<&str>, none: Option<String>, force: bool) -> Result<bool> {
        let why = match (engine, self.setting(ENGINE)?) {
            (None, _) => "Docker's list names no engine".to_owned(),
            (Some(engine), Some(recorded)) if engine != recorded => {
                format!("Docker's list is engine {engine}'s, but the records are of engine {recorded}'s networks")
            }
            _ => match none {
                Some(none) => none,
                None => return Ok(false),
            },
        };
        ensure!(
            force,
            "{why}: nothing was changed; see that it is the right engine's socket, then add --force (force=true)"
        );
        log::warn!("reconcile: {why}: accepted (--force)");
        Ok(true)
    }
}
