// SPDX-License-Identifier: Apache-2.0
//! What another host says: recorded, brought into the kernel, and answered.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ciao_common::store::{Given, ListState};
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
                if self.peers.may_log(format!("message {from}")) {
                    log::warn!("exchange: a message of {from} is refused: {error}");
                }
                return Ok((serde_json::to_vec(&Answer::Refused(error))?, false));
            }
        };
        let is_news = self.peers.told(from, message.yours.clone());
        let state = self.record_list(from, message)?;
        Ok((serde_json::to_vec(&Answer::Has(state))?, is_news))
    }

    fn record_list(&self, from: &HostId, message: Message) -> Result<Option<ListState>> {
        let host = from.clone();
        let Some(endpoints) = message.endpoints else { return self.store.read(|tx| tx.peer_state(&host)) };
        let generation = message.own.generation;
        // One at a time: Docker's calls write too.
        let recording = lock(&self.peers.recording);
        let (given, tenants) = self.store.write(move |tx| tx.give_endpoints(&host, generation, &endpoints))?;
        drop(recording);
        self.judge(from, &tenants)?;
        for tenant in &tenants {
            for network in self.store.read(|tx| tx.networks_of_tenant(tenant))? {
                if let Err(error) = self.fabric.follow_remotes(&network) {
                    log::warn!("addresses on host {from}: {error:#}; tried again by the next reconcile");
                }
            }
        }
        Ok(match given {
            Given::Recorded(state) | Given::Same(state) | Given::Contradicted(state) => Some(state),
            Given::Refused(state) => state,
        })
    }

    /// Counts the claims of a host that do not hold, and logs one of them.
    fn judge(&self, from: &HostId, tenants: &BTreeSet<TenantId>) -> Result<()> {
        let mut refused = BTreeMap::<Refusal, u64>::new();
        let mut example = None;
        for tenant in tenants {
            for (claim, refusal) in self.store.read(|tx| remotes::claims(tx, tenant))? {
                if let Some(refusal) = refusal.filter(|_| claim.host == *from) {
                    *refused.entry(refusal).or_default() += 1;
                    example.get_or_insert((tenant, claim.address, refusal));
                }
            }
        }
        for (refusal, count) in &refused {
            self.peers.refuse(refusal.word(), *count);
        }
        if let Some((tenant, address, refusal)) = example
            && self.peers.may_log(format!("claim {from}"))
        {
            let others = refused.values().sum::<u64>() - 1;
            let why = refusal.sentence();
            log::warn!(
                "exchange: {from} says that it has {address} of tenant {tenant}, and {why}: refused; {others} more"
            );
        }
        Ok(())
    }
}
