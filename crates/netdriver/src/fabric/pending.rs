// SPDX-License-Identifier: Apache-2.0
//! What was recorded when the daemon started and is still to be compared with the kernel. The daemon answers meanwhile:
//! a call waits for its own namespace, and not for those of others.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

use ciao_common::sync::lock;

/// What is compared at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The rules and settings of the host that all tenants share.
    Host,
    /// A namespace; `None`: bridges of the host.
    Space(Option<String>),
}

/// The parts, and whether a thread is at work on each.
pub(crate) struct Pending {
    parts: Mutex<BTreeMap<Part, bool>>,
    left: Condvar,
}

/// A part that no other thread is at work on, as long as this exists.
pub(crate) struct Work<'a> {
    pending: &'a Pending,
    part: Part,
}

impl Pending {
    pub(super) fn new(namespaces: Vec<Option<String>>) -> Self {
        let spaces = namespaces.into_iter().map(Part::Space);
        let parts = std::iter::once(Part::Host).chain(spaces).map(|part| (part, false)).collect();
        Self { parts: Mutex::new(parts), left: Condvar::new() }
    }

    /// How many parts there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.parts).len()
    }

    /// Takes a part on; `None`: nothing is to be done. Waits while another thread is at work on it.
    pub(crate) fn begin(&self, part: Part) -> Option<Work<'_>> {
        let mut parts = lock(&self.parts);
        loop {
            let is_busy = parts.get_mut(&part)?;
            if !*is_busy {
                *is_busy = true;
                return Some(Work { pending: self, part });
            }
            parts = self.left.wait(parts).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Work<'_> {
    /// The part is as recorded now. Otherwise it is left to the next one who needs it.
    pub(crate) fn done(self) {
        lock(&self.pending.parts).remove(&self.part);
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if let Some(is_busy) = lock(&self.pending.parts).get_mut(&self.part) {
            *is_busy = false;
        }
        self.pending.left.notify_all();
    }
}
