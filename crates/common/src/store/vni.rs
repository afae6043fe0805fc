// SPDX-License-Identifier: Apache-2.0
//! Table `vni_record`: the VNIs of a swarm's networks, which its leader allocates.
//!
//! A record is former if its network was not requested since the engine last became the leader. It may be that of a
//! network that was deleted under another leader; or the plugin was enabled again, and nothing is requested again. So
//! nobody is allocated a former VNI, and who names it gets it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rusqlite::{Row, params};

use super::Tx;
use super::value::{Text, get};
use crate::types::{NetworkId, fnv1a};

/// The lowest and the highest VNI that is allocated: lower ones are for those who choose their own.
const ALLOCATED: (u32, u32) = (1 << 16, (1 << 24) - 1);

/// How long former VNIs are kept.
const FORMER_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

impl Tx<'_> {
    /// The VNI of a swarm's network: as it was allocated before, or one that no network has, as far as this node knows.
    /// Which one depends on the network's ID, so two leaders rarely choose the same for two networks.
    pub fn allocate_vni(&self, network: &NetworkId) -> Result<u32> {
        if let Some(vni) = self.vni_of(network)? {
            self.record_vni(network, vni)?;
            return Ok(vni);
        }
        self.change(
            "DELETE FROM vni_record WHERE requested < min(?1, ?2)",
            params![self.engine_started()?, self.ago(FORMER_KEPT)],
        )?;
        let (first, last) = ALLOCATED;
        let taken = "SELECT vni FROM vni_record UNION SELECT vni FROM tunnel_record
             UNION SELECT vni FROM tenant_subnet UNION SELECT vni FROM peer_record";
        let taken: BTreeSet<u32> = self.all(taken, [], |row| row.get(0))?.into_iter().collect();
        let size = u64::from(last - first + 1);
        let start = first + u32::try_from(fnv1a(network.as_str().as_bytes()) % size)?;
        let free = (start..=last).chain(first..start).find(|vni| !taken.contains(vni));
        let vni = free.context("every VNI is allocated: delete a network")?;
        self.record_vni(network, vni)?;
        Ok(vni)
    }

    /// Records the VNI that a swarm's network has.
    ///
    /// # Errors
    /// Another network has it.
    pub fn record_vni(&self, network: &NetworkId, vni: u32) -> Result<()> {
        let started = self.engine_started()?;
        let others = "SELECT network, requested FROM vni_record WHERE vni = ?1 AND network <> ?2";
        let row = |row: &Row<'_>| Ok((get::<NetworkId>(row, "network")?, row.get::<_, i64>("requested")?));
        if let Some((other, requested)) = self.first(others, params![vni, Text(network)], row)? {
            if requested >= started {
                bail!(
                    "VNI {vni} is that of network {}: give another --opt vni, or none, and one is allocated",
                    other.short()
                );
            }
            self.forget_vni(&other)?;
        }
        self.change(
            "INSERT OR REPLACE INTO vni_record (network, vni, requested) VALUES (?1, ?2, ?3)",
            params![Text(network), vni, self.now()],
        )
    }

    /// Forgets the VNI of a network that is deleted.
    pub fn forget_vni(&self, network: &NetworkId) -> Result<()> {
        self.change("DELETE FROM vni_record WHERE network = ?1", [Text(network)])
    }

    fn vni_of(&self, network: &NetworkId) -> Result<Option<u32>> {
        self.first("SELECT vni FROM vni_record WHERE network = ?1", [Text(network)], |row| row.get(0))
    }
}
