//! Table `setting`: facts of this host.

use anyhow::{Context, Result};
use rusqlite::params;

use super::Tx;
use crate::types::random_hex;

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

    /// What this database calls itself in PoolIDs: another one, made after this was lost, has another name.
    ///
    /// # Errors
    /// The disk's.
    pub fn database(&self) -> Result<String> {
        self.setting_or("database", &random_hex::<4>())
    }
}
