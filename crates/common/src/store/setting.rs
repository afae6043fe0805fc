// SPDX-License-Identifier: Apache-2.0
//! Table `setting`: facts of this host.

use anyhow::{Context, Result};
use rusqlite::params;

use super::Tx;
use crate::types::{PoolDescription, random_hex};

/// The setting with this database's name, and, with a name of before behind it, the last row under that.
const DATABASE: &str = "database";

impl Tx<'_> {
    /// The value of a setting, which is `fresh` from now on if it was not there.
    ///
    /// # Errors
    /// The disk's.
    pub fn setting_or(&self, name: &str, fresh: &str) -> Result<String> {
        self.change("INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING", params![name, fresh])?;
        self.first("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))?
            .with_context(|| format!("setting {name} is not there"))
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// The disk's.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        self.first("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))
    }

    /// Gives a setting a value.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        self.change("INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)", params![name, value]).map(drop)
    }

    /// What this database calls itself in the PoolIDs that are made now.
    ///
    /// # Errors
    /// The disk's.
    pub fn database(&self) -> Result<String> {
        self.setting_or(DATABASE, &random_hex::<4>())
    }

    /// Takes another name from now on, as at every start: this may be an older copy, and what was made after it was
    /// taken has names that are not known here. How far the rows went under the name of before is kept.
    ///
    /// # Errors
    /// The disk's.
    pub fn rename_database(&self) -> Result<()> {
        if let Some(before) = self.setting(DATABASE)? {
            self.set_setting(&format!("{DATABASE} {before}"), &self.last_pool_row()?.to_string())?;
        }
        self.set_setting(DATABASE, &random_hex::<4>())
    }

    /// Whether a pool was made here that is not recorded any more, because it was released.
    ///
    /// # Errors
    /// The disk's.
    pub fn was_released(&self, pool: &PoolDescription) -> Result<bool> {
        let last = match self.setting(&format!("{DATABASE} {}", pool.database))? {
            Some(last) => last.parse().unwrap_or(i64::MAX),
            None if pool.database == self.database()? => self.last_pool_row()?,
            None => 0,
        };
        Ok(pool.row <= last)
    }
}
