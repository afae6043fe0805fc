// SPDX-License-Identifier: Apache-2.0
//! Failures that are logged already: a timer that finds one again and again logs it once.

use std::collections::BTreeSet;
use std::sync::Mutex;

use ciao_common::sync::lock;

/// The failures, a sentence each.
#[derive(Default)]
pub(crate) struct Failures(Mutex<BTreeSet<String>>);

impl Failures {
    /// Notes a failure. `true`: it is a new one, to be logged.
    pub(crate) fn note(&self, failure: String) -> bool {
        lock(&self.0).insert(failure)
    }

    /// After a whole pass with these failures: any other one is logged when it occurs again.
    pub(crate) fn keep(&self, failures: impl Iterator<Item = String>) {
        *lock(&self.0) = failures.collect();
    }
}
