// SPDX-License-Identifier: Apache-2.0
//! Tenants, of whom there is no table: they are whoever has a network, a VNIC or a pool.

use anyhow::Result;

use super::Tx;

impl Tx<'_> {
    /// How many tenants there are.
    pub fn tenant_count(&self) -> Result<i64> {
        Ok(self.first("SELECT count(*) FROM tenant", [], |row| row.get(0))?.unwrap_or_default())
    }
}
