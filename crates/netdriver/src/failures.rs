// SPDX-License-Identifier: Apache-2.0
//! Failures that are logged already: a timer that finds one again and again logs it once.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The failures, a sentence each.
#[derive(Default)]
pub(crate) struct Failures(Mutex<BTreeSet<String>>);

impl Failures {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a failure is to be logged.
    pub(crate) fn is_new(&self, failure: String) -> bool {
        self.lock().insert(failure)
    }

    /// After a whole pass with these failures: any other one is logged when it occurs again.
    pub(crate) fn keep(&self, failures: impl Iterator<Item = String>) {
        *self.lock() = failures.collect();
    }
}
