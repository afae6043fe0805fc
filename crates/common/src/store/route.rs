// SPDX-License-Identifier: Apache-2.0
//! Table `host_route`: the subnets that the host itself routes. ciao-net sees and writes them; ciao-ipam, which has no
//! network, chooses no pool there.

use anyhow::Result;
use rusqlite::params;

use super::Tx;
use super::value::{Key, Text, get};
use crate::types::Subnet;

impl Tx<'_> {
    /// The subnets as they were last written.
    ///
    /// # Errors
    /// The disk's.
    pub fn host_routes(&self) -> Result<Vec<Subnet>> {
        self.all("SELECT subnet FROM host_route", [], |row| get(row, "subnet"))
    }

    /// Writes the subnets of now.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_host_routes(&self, subnets: &[Subnet]) -> Result<()> {
        self.change("DELETE FROM host_route", [])?;
        for subnet in subnets {
            let (family, range) = (subnet.family(), subnet.range());
            self.change(
                "INSERT OR REPLACE INTO host_route (subnet, first, last) VALUES (?1, ?2, ?3)",
                params![Text(subnet), Key::new(family, range.first), Key::new(family, range.last)],
            )?;
        }
        Ok(())
    }
}
