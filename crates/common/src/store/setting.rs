//! Table `setting`: facts of this host.

use anyhow::{Context, Result};
use rusqlite::params;

use super::Tx;

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
}
