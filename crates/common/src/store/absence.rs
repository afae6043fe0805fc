// SPDX-License-Identifier: Apache-2.0
//! Table `absent_host`: the hosts of the list that are not there.

use std::collections::BTreeMap;

use anyhow::Result;
use rusqlite::params;

use super::Tx;
use super::value::{Text, get};
use crate::types::HostId;

/// Why a host of the list is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It does not answer.
    Silent,
    /// Docker says that its node left the swarm, or that its engine is silent.
    Gone,
}

impl Absence {
    fn word(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Gone => "gone",
        }
    }
}

impl Tx<'_> {
    /// The hosts that are not there for this reason, and since when, in milliseconds since 1970.
    pub fn absent_hosts(&self, why: Absence) -> Result<BTreeMap<HostId, i64>> {
        let hosts = "SELECT host, since FROM absent_host WHERE why = ?1";
        let rows = self.all(hosts, [why.word()], |row| Ok((get(row, "host")?, row.get("since")?)))?;
        Ok(rows.into_iter().collect())
    }

    /// Records that a host of the list is not there, or is. `true`: that is new.
    pub fn set_absent(&self, host: &HostId, why: Absence, is_absent: bool) -> Result<bool> {
        if self.absent_hosts(why)?.contains_key(host) == is_absent {
            return Ok(false);
        }
        self.change("DELETE FROM absent_host WHERE host = ?1 AND why = ?2", params![Text(host), why.word()])?;
        if is_absent {
            let add = "INSERT INTO absent_host (host, why, since) VALUES (?1, ?2, ?3)";
            self.change(add, params![Text(host), why.word(), self.now()])?;
        }
        Ok(true)
    }

    /// Forgets which hosts have left the swarm.
    pub fn clear_gone(&self) -> Result<()> {
        self.change("DELETE FROM absent_host WHERE why = 'gone'", [])
    }
}
