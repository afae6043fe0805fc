// SPDX-License-Identifier: Apache-2.0
//! What another host says: recorded and answered, and brought into the kernel behind the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::thread;

use anyhow::Result;
use ciao_common::store::{Absence, Given, ListState};
use ciao_common::sync::lock;
use ciao_common::types::{HostId, TenantId};

use super::message::{Answer, Message, plain};
use crate::Driver;
use crate::fabric::remotes::{self, Refusal};

impl Driver {
    /// The answer to a message of another host; and whether this host has to send it something.
    ///
    /// # Errors
    /// The disk fails.
    pub fn hear(&self, from: &HostId, message: &[u8]) -> Result<(Vec<u8>, bool)> {
        let message = match Message::parse(message) {
            Ok(message) => message,
            Err(error) => {
                self.peers.refuse("message", 1);
                let error = plain(&error);
                if self.peers.may_log("message", from.to_string()) {
                    log::warn!("exchange: refused a message from {from}: {error}");
                }
                return Ok((serde_json::to_vec(&Answer::Refused(error))?, false));
            }
        };
        let is_news = self.peers.told(from, message.yours.clone());
        self.note_silence(from)?;
        let state = self.record_list(from, message)?;
        Ok((serde_json::to_vec(&Answer::Has(state))?, is_news))
    }

    fn record_list(&self, from: &HostId, message: Message) -> Result<Option<ListState>> {
        let host = from.clone();
        let Some(endpoints) = message.endpoints else { return self.store.read(|tx| tx.peer_state(&host)) };
        let generation = message.own.generation;
        // One at a time: Docker's calls write too.
        let recording = loop {
            let recording = lock(&self.peers.recording);
            let wait = self.peers.pause_of(from);
            if wait.is_zero() {
                break recording;
            }
            drop(recording);
            thread::sleep(wait);
        };
        let (given, tenants) = self.store.write(move |tx| tx.give_endpoints(&host, generation, &endpoints))?;
        self.peers.recorded(from, tenants.values().sum());
        drop(recording);
        for tenant in tenants.into_keys() {
            lock(&self.peers.changed).entry(tenant).or_default().insert(from.clone());
        }
        Ok(match given {
            Given::Recorded(state) | Given::Same(state) | Given::Contradicted(state) => Some(state),
            Given::Refused(state) => state,
        })
    }

    /// Records whether a host answers: one that does not keeps its addresses from nobody.
    pub(super) fn note_silence(&self, host: &HostId) -> Result<()> {
        let Some(is_silent) = self.peers.turned(host) else { return Ok(()) };
        if self.store.read(|tx| tx.absent_hosts(Absence::Silent))?.contains_key(host) == is_silent {
            return Ok(());
        }
        let id = host.clone();
        self.store.write(move |tx| tx.set_absent(&id, Absence::Silent, is_silent))?;
        for tenant in self.store.read(|tx| tx.tenants_with_shared_claims())? {
            lock(&self.peers.changed).entry(tenant).or_default();
        }
        Ok(())
    }

    /// Brings what was recorded into the kernel: what came during one pass, of however many hosts, is one pass. Waits
    /// for the one that runs. What fails is repaired by the next reconcile.
    pub fn follow_lists(&self) {
        let _following = lock(&self.peers.following);
        let changed = mem::take(&mut *lock(&self.peers.changed));
        if changed.is_empty() {
            return;
        }
        self.fabric.tunnels.refused.may_have_changed();
        let read = self.store.read(|tx| tx.networks()).and_then(|networks| Ok((networks, self.fabric.here()?)));
        let (networks, here) = match read {
            Ok(read) => read,
            Err(error) => return log::warn!("tenants on other hosts: {error:#}; tried again by the next reconcile"),
        };
        // A host can announce addresses of ten thousand tenants that are not here.
        let is_here: BTreeSet<_> = networks.into_iter().filter_map(|network| network.tenant).collect();
        for (tenant, hosts) in changed.iter().filter(|(tenant, _)| is_here.contains(*tenant)) {
            let followed = [
                self.fabric.follow_networks_as(&here, tenant),
                self.judge(tenant, hosts),
                self.fabric.follow_tenant(tenant),
            ];
            for error in followed.into_iter().filter_map(Result::err) {
                log::warn!("update tenant {tenant} on other hosts: {error:#}; retried by the next reconcile");
            }
        }
    }

    /// Counts the claims of hosts of a tenant's addresses that do not hold, and logs one of each host.
    fn judge(&self, tenant: &TenantId, hosts: &BTreeSet<HostId>) -> Result<()> {
        let mut refused = BTreeMap::<HostId, Vec<(IpAddr, Refusal)>>::new();
        let claims = self.store.read(|tx| remotes::claims(tx, tenant))?;
        let contested: BTreeSet<_> =
            claims.iter().filter(|(_, why)| *why == Some(Refusal::Mac)).map(|(claim, _)| claim.mac).collect();
        for (claim, _) in claims.iter().filter(|(claim, _)| contested.contains(&claim.mac)) {
            // Does the host that has it answer?
            self.peers.probe(&claim.host);
        }
        for (claim, refusal) in claims {
            if let Some(refusal) = refusal.filter(|_| hosts.contains(&claim.host)) {
                self.peers.refuse(refusal.word(), 1);
                refused.entry(claim.host).or_default().push((claim.address, refusal));
            }
        }
        for (host, claims) in refused {
            if let Some((address, refusal)) = claims.first()
                && self.peers.may_log("claim", host.to_string())
            {
                let (why, others) = (refusal.sentence(), claims.len() - 1);
                log::warn!("exchange: {host} announced {address} of tenant {tenant}: rejected, {why}; {others} more");
            }
        }
        Ok(())
    }
}
