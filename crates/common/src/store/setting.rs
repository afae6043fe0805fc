//! Tables `setting` and `peer`: facts of this host, and the other nodes of its swarm.

use std::net::IpAddr;

use anyhow::{Context, Result};
use rusqlite::params;

use super::value::Text;
use super::{Tx, now};

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

    /// Records that a node is in the swarm.
    ///
    /// # Errors
    /// The disk's.
    pub fn insert_peer(&self, address: IpAddr) -> Result<()> {
        self.change("INSERT OR REPLACE INTO peer (address, seen) VALUES (?1, ?2)", params![Text(address), now()])
            .map(drop)
    }

    /// Forgets a node.
    ///
    /// # Errors
    /// The disk's.
    pub fn delete_peer(&self, address: IpAddr) -> Result<()> {
        self.change("DELETE FROM peer WHERE address = ?1", [Text(address)]).map(drop)
    }
}
