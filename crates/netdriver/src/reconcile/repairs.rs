// SPDX-License-Identifier: Apache-2.0
//! Repairs that are made, or listed by a dry run, as rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use ciao_common::store::{Endpoint, Owner, Vnic};
use ciao_common::sync::lock;
use ciao_common::types::{EndpointId, NetworkId, VnicId};
use serde::{Deserialize, Serialize};

use crate::Driver;

/// How many namespaces are compared at a time: most of that is nft's work, and waiting for the kernel.
const AT_ONCE: usize = 4;

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Repair {
    /// `create`, `restore`, `delete`, `remove` or `record` (a record), `check`, or `restart`, which is left to the
    /// administrator.
    pub action: String,
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
    /// Why it could not be done.
    #[serde(default)]
    pub error: Option<String>,
}

/// Makes repairs, unless it is a dry run, and collects them. One that fails is a row with an error; the others
/// continue.
pub(super) struct Repairs<'a> {
    pub(super) driver: &'a Driver,
    pub(super) dry: bool,
    pub(super) done: Vec<Repair>,
    /// What a dry run would have forgotten: the rest of it goes on without.
    pub(super) forgotten: Forgotten,
}

/// Records that are forgotten.
#[derive(Clone, Default)]
pub(super) struct Forgotten {
    pub(super) networks: BTreeSet<NetworkId>,
    pub(super) endpoints: BTreeSet<EndpointId>,
    pub(super) vnics: BTreeSet<VnicId>,
}

impl Forgotten {
    /// An endpoint, and with it a VNIC of Docker's.
    pub(super) fn add(&mut self, endpoint: &Endpoint, vnic: Option<&Vnic>) {
        self.endpoints.insert(endpoint.id.clone());
        self.vnics.extend(vnic.filter(|vnic| vnic.owner == Owner::Docker).map(|vnic| vnic.id.clone()));
    }
}

impl<'a> Repairs<'a> {
    pub(super) fn new(driver: &'a Driver, dry: bool) -> Self {
        Self { driver, dry, done: Vec::new(), forgotten: Forgotten::default() }
    }

    /// Does the same for each of `all`, several at a time. Their repairs follow each other in the order of `all`.
    pub(super) fn each<T: Sync>(&mut self, all: &[T], act: impl Fn(&mut Self, &T) + Sync) {
        let (next, rows) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(one) = all.get(index) else { return };
                let forgotten = self.forgotten.clone();
                let mut repairs = Self { driver: self.driver, dry: self.dry, done: Vec::new(), forgotten };
                act(&mut repairs, one);
                lock(&rows).insert(index, repairs.done);
            }
        };
        thread::scope(|scope| {
            (1..AT_ONCE.min(all.len())).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.done.extend(rows.into_values().flatten());
    }

    /// Makes one repair, unless nothing is left to do: then `act` returns `false`. Returns whether it succeeded.
    pub(super) fn repair(
        &mut self,
        action: &str,
        what: impl ToString,
        why: &str,
        act: impl FnOnce(&Driver) -> Result<bool>,
    ) -> bool {
        let what = what.to_string();
        if self.dry {
            self.add(action, what, why, None);
            return true;
        }
        match act(self.driver) {
            Ok(false) => true,
            Ok(true) => {
                log::info!("reconcile: {action} {what}: {why}");
                self.add(action, what, why, None);
                true
            }
            Err(error) => {
                self.fail(action, what, why, &error);
                false
            }
        }
    }

    /// A step of the pass itself, such as a list. Its error is a row.
    pub(super) fn step(&mut self, what: impl ToString, result: Result<()>) {
        if let Err(error) = result {
            self.fail("check", what.to_string(), "comparison with the database failed", &error);
        }
    }

    pub(super) fn fail(&mut self, action: &str, what: String, why: &str, error: &anyhow::Error) {
        let error = format!("{error:#}");
        // The timer finds it again and again.
        if self.dry || lock(&self.driver.failures).insert(format!("{action} {what}: {error}")) {
            log::warn!("reconcile: {action} {what}: {why}: {error}");
        }
        self.add(action, what, why, Some(error));
    }

    pub(super) fn has_failed(&self) -> bool {
        self.done.iter().any(|row| row.error.is_some())
    }

    pub(super) fn add(&mut self, action: &str, what: String, why: &str, error: Option<String>) {
        self.done.push(Repair { action: action.to_owned(), what, why: why.to_owned(), error });
    }
}
