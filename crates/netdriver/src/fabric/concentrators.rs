// SPDX-License-Identifier: Apache-2.0
//! Concentrators that do not answer: the next one of the list takes over until they do again.
//!
//! Each host asks those of its tenants by itself. Two hosts may differ for a while: a packet leaves by whichever
//! concentrator it was sent to.

use std::collections::BTreeSet;

use anyhow::Result;
use ciao_common::store::Absence;
use ciao_common::sync::lock;
use ciao_common::types::HostId;

use super::Fabric;

/// Echo requests in a row without an answer, until a concentrator counts as dead.
const UNANSWERED: u32 = 3;
/// Answers in a row until it counts as alive again: one that comes and goes ends connections each time.
const ANSWERED: u32 = 5;
/// Bytes of an echo request with its IP header.
const BYTES: u32 = 64;

impl Fabric {
    /// Sends an echo request to each concentrator of a tenant, and has tenants follow where one is recorded as dead or
    /// alive now. The caller has no lock.
    pub(crate) fn probe_concentrators(&self) -> Result<()> {
        let tenants = self.store.read(|tx| tx.tenants_of_cnci())?;
        if tenants.is_empty() {
            return Ok(());
        }
        let cluster = self.tunnels.cluster()?;
        let Some(own) = &cluster.own else { return Ok(()) };
        let (mut hosts, mut has_changed) = (BTreeSet::new(), false);
        for tenant in &tenants {
            hosts.extend(self.store.read(|tx| tx.cnci(tenant))?);
        }
        let silent = self.store.read(|tx| tx.absent_hosts(Absence::Silent))?;
        for host in hosts.iter().filter_map(|id| cluster.others.get(id)) {
            let was_silent = silent.contains_key(&host.id);
            let is_silent = !matches!(self.kernel.echo(own.address, host.address, BYTES), Ok(true));
            if self.turns(&host.id, was_silent, is_silent) {
                let what = if is_silent { "does not answer: the next one takes over" } else { "answers again" };
                log::warn!("concentrator {} at {} {what}", host.id, host.address);
                let id = host.id.clone();
                has_changed |= self.store.write(move |tx| tx.set_absent(&id, Absence::Silent, is_silent))?;
            }
        }
        if !has_changed {
            return Ok(());
        }
        let failed = tenants.iter().filter_map(|tenant| self.follow_tenant(tenant).err());
        failed.last().map_or(Ok(()), Err)
    }

    /// Counts an answer, or its absence. `true`: the host is to be recorded otherwise.
    fn turns(&self, host: &HostId, was_silent: bool, is_silent: bool) -> bool {
        let mut counts = lock(&self.probes);
        if was_silent == is_silent {
            counts.remove(host);
            return false;
        }
        let count = counts.entry(host.clone()).or_default();
        *count += 1;
        let turns = *count >= if is_silent { UNANSWERED } else { ANSWERED };
        if turns {
            counts.remove(host);
        }
        turns
    }
}
