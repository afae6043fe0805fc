// SPDX-License-Identifier: Apache-2.0
//! Records that were lost: the database was deleted, or is an older one than what runs.
//!
//! Links of VNICs that no record stands for, and that a container has or whose namespace is not recorded at all, show
//! it. On bridges of the host it is those that a container has. Rules and uplinks that they need are then neither
//! deleted nor written from the records that are left, and nothing new is made beside them, until a backup is restored,
//! `reconcile` makes them again, or an administrator gives them up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, Once};

use anyhow::{Result, bail};
use ciao_common::store::Store;
use ciao_common::sync::lock;
use ciao_common::types::LinkName;

use crate::kernel::{Kernel, Namespace};
use crate::names;

/// What an administrator can do.
const REMEDY: &str = "run \"ciao-net reconcile --docker\", which makes the records again, or restore a backup of it; what \
                      cannot be known again is given up with \"ciao-net reconcile --give-up\"";

/// Where records are missing.
pub(crate) struct Lost {
    store: Arc<Store>,
    kernel: Arc<dyn Kernel>,
    found: Mutex<BTreeSet<Namespace>>,
    /// The first look since the start, before anything depends on it.
    first: Once,
    /// Links that an administrator has given up.
    given_up: Mutex<BTreeSet<LinkName>>,
    /// Whether all that the parts of Docker's list had so far was recorded; `None`: they had no details.
    recorded: Mutex<Option<bool>>,
}

impl Lost {
    pub(super) fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>) -> Self {
        Self {
            store,
            kernel,
            found: Mutex::default(),
            first: Once::new(),
            given_up: Mutex::default(),
            recorded: Mutex::default(),
        }
    }

    /// A list of Docker's begins, whatever became of the one before.
    pub(crate) fn begin_list(&self) {
        *lock(&self.recorded) = None;
    }

    /// Notes that a part of Docker's list, with details or not, was recorded or not. `true`: it was the last, and all
    /// were.
    pub(crate) fn finish_part(&self, has_details: bool, is_recorded: bool, has_more: bool) -> bool {
        let mut recorded = lock(&self.recorded);
        if has_details {
            *recorded = Some(recorded.unwrap_or(true) && is_recorded);
        }
        if has_more { false } else { recorded.take().unwrap_or(false) }
    }

    /// Whether records are missing anywhere.
    pub(crate) fn is_any(&self) -> bool {
        !self.known().is_empty()
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<Namespace>> {
        self.first.call_once_force(|_| {
            if let Err(error) = self.look_now() {
                log::warn!("look for lost records: {error:#}");
            }
        });
        lock(&self.found)
    }

    /// Whether a namespace has links without records, still.
    pub(crate) fn has(&self, namespace: &str) -> Result<bool> {
        let namespace = Namespace::Named(namespace.to_owned());
        if !self.known().contains(&namespace) {
            return Ok(false);
        }
        let lasts = !self.links_in(vec![namespace.clone()])?.is_empty();
        if !lasts {
            lock(&self.found).remove(&namespace);
        }
        Ok(lasts)
    }

    /// Looks at every namespace.
    pub(crate) fn look(&self) -> Result<()> {
        let mut looked = None;
        self.first.call_once_force(|_| looked = Some(self.look_now()));
        looked.unwrap_or_else(|| self.look_now())
    }

    fn look_now(&self) -> Result<()> {
        let mut namespaces = vec![Namespace::Host];
        namespaces.extend(self.kernel.namespaces()?.into_iter().map(Namespace::Named));
        let found: BTreeSet<_> = self.links_in(namespaces)?.into_keys().collect();
        let mut known = lock(&self.found);
        if !found.is_subset(&known) {
            let list = found.iter().map(Namespace::to_string).collect::<Vec<_>>().join(", ");
            log::warn!(
                "the database was lost or is an older one: VNICs in {} network namespaces have no record ({list}). They \
                 are left as they are, and no network or VNIC is created beside them: {REMEDY}",
                found.len()
            );
        }
        *known = found;
        Ok(())
    }

    /// The ends on bridges of VNICs whose records were lost, in those of these namespaces that have any.
    fn links_in(&self, namespaces: Vec<Namespace>) -> Result<BTreeMap<Namespace, Vec<LinkName>>> {
        // The kernel is read first: what is recorded in between is known then.
        let mut found = BTreeMap::new();
        for namespace in namespaces {
            let mut links = self.kernel.links(&namespace)?;
            links.retain(names::is_host_link);
            if !links.is_empty() {
                found.insert(namespace, links);
            }
        }
        if found.is_empty() {
            return Ok(found);
        }
        let host: BTreeSet<_> = self.kernel.links(&Namespace::Host)?.into_iter().collect();
        let (known, used) = self.store.read(|tx| {
            let used = |namespace: &Namespace| {
                Ok((namespace.clone(), namespace.name().map_or(Ok(true), |name| tx.is_namespace_used(name))?))
            };
            let used = found.keys().map(used).collect::<Result<BTreeMap<_, _>>>()?;
            Ok((tx.vnic_links()?.into_iter().collect::<BTreeSet<_>>(), used))
        })?;
        let given_up = lock(&self.given_up).clone();
        for (namespace, links) in &mut found {
            let is_used = used[namespace];
            links.retain(|link| {
                !known.contains(link) && !given_up.contains(link) && (!is_used || names::is_in_container(link, &host))
            });
            if !links.is_empty() {
                // One that was being deleted has disappeared meanwhile.
                let still = self.kernel.links(namespace)?;
                links.retain(|link| still.contains(link));
            }
        }
        found.retain(|_, links| !links.is_empty());
        Ok(found)
    }

    /// Takes what is still without record for nobody's, as an administrator has asked.
    pub(crate) fn give_up(&self) -> Result<()> {
        self.look()?;
        let namespaces = lock(&self.found).iter().cloned().collect();
        let links = self.links_in(namespaces)?;
        lock(&self.given_up).extend(links.into_values().flatten());
        lock(&self.found).clear();
        Ok(())
    }

    /// Refuses what would be made beside lost records.
    pub(crate) fn refuse(&self) -> Result<()> {
        if self.is_any() {
            bail!("the database was lost or is an older one, and containers without records are running: {REMEDY}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn what_a_list_recorded_that_was_not_finished_counts_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("db")).unwrap());
        let lost = Lost::new(store, Arc::new(Fake::default()));
        // The client ended after a part that failed, and after one that did not.
        for was_recorded in [false, true] {
            assert!(!lost.finish_part(true, was_recorded, true));
            lost.begin_list();
            assert!(!lost.finish_part(true, true, true), "more follows");
            assert!(lost.finish_part(false, true, false));
        }
        assert!(!lost.finish_part(true, true, true));
        lost.begin_list();
        assert!(!lost.finish_part(false, true, false), "a list without details");
    }
}
