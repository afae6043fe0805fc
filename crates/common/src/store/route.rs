// SPDX-License-Identifier: Apache-2.0
//! Table `host_route`: the subnets of the host's routes. ciao-net records them; ciao-ipam, which cannot see them,
//! avoids them when it chooses a pool.

use anyhow::Result;
use rusqlite::params;

use super::Tx;
use super::value::{Key, Text, get};
use crate::types::Subnet;

impl Tx<'_> {
    /// The recorded subnets.
    pub fn host_routes(&self) -> Result<Vec<Subnet>> {
        self.all("SELECT subnet FROM host_route", [], |row| get(row, "subnet"))
    }

    /// Replaces the recorded subnets.
    pub fn set_host_routes(&self, subnets: &[Subnet]) -> Result<()> {
        self.change("DELETE FROM host_route", [])?;
        for subnet in subnets {
            let [first, last] = Key::ends(*subnet);
            self.change(
                "INSERT OR REPLACE INTO host_route (subnet, first, last) VALUES (?1, ?2, ?3)",
                params![Text(subnet), first, last],
            )?;
        }
        Ok(())
    }
}
