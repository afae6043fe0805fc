// SPDX-License-Identifier: Apache-2.0
//! This host's own list, as it is sent to others.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use ciao_common::store::{ClusterHost, HostEndpoint, ListState, Store};
use ciao_common::sync::lock;

use super::message::check_count;

/// How often a host that has everything is asked whether it still has, and the list is read again.
pub(super) const COMPARE_EVERY: Duration = Duration::from_secs(60);

/// The list, and when it was read.
pub(super) struct OwnList {
    store: Arc<Store>,
    published: Mutex<Option<(Arc<Published>, Instant)>>,
    /// Addresses on this host may have changed.
    changed: AtomicBool,
}

/// The list as it is recorded.
pub(super) struct Published {
    pub(super) own: ClusterHost,
    pub(super) state: ListState,
    pub(super) endpoints: BTreeSet<HostEndpoint>,
}

impl OwnList {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, published: Mutex::default(), changed: AtomicBool::new(false) }
    }

    pub(super) fn has_changed(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// The list, read again if it may have changed.
    pub(super) fn current(&self, own: &ClusterHost) -> Result<Arc<Published>> {
        let may_have_changed = self.changed.swap(false, Ordering::AcqRel);
        let is_good =
            |list: &Published, at: Instant| !may_have_changed && list.own == *own && at.elapsed() < COMPARE_EVERY;
        let known = lock(&self.published).clone().filter(|(list, at)| is_good(list, *at));
        match known {
            Some((list, _)) => Ok(list),
            None => self.publish(own, 0).inspect_err(|_| self.has_changed()),
        }
    }

    /// Records the list, with a generation above another.
    pub(super) fn publish(&self, own: &ClusterHost, above: u64) -> Result<Arc<Published>> {
        let mut published = lock(&self.published);
        // Requests that wait for the disk may be in the kernel already: read after them.
        self.store.settle()?;
        let endpoints = self.store.read(|tx| tx.own_endpoints())?;
        check_count(&endpoints)?;
        let (id, list) = (own.id.clone(), endpoints.clone());
        let state = self.store.write(move |tx| tx.publish(&id, &list, above))?;
        let list = Arc::new(Published { own: own.clone(), state, endpoints });
        *published = Some((Arc::clone(&list), Instant::now()));
        Ok(list)
    }
}
