// SPDX-License-Identifier: Apache-2.0
//! A lock for each namespace or endpoint, by its name.

use std::sync::{Mutex, MutexGuard};

use ciao_common::sync::lock;

/// This many locks for all names: two may share one.
const LOCKS: usize = 64;

/// The locks.
pub(super) struct Locks(Vec<Mutex<()>>);

impl Default for Locks {
    fn default() -> Self {
        Self((0..LOCKS).map(|_| Mutex::new(())).collect())
    }
}

impl Locks {
    /// Until the guard is dropped, nobody else has the name's lock.
    pub(super) fn lock(&self, name: &str) -> MutexGuard<'_, ()> {
        let sum = name.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        lock(&self.0[sum % self.0.len()])
    }

    /// As [`Self::lock`], with a namespace's name; `None`: the host's.
    pub(super) fn lock_namespace(&self, namespace: Option<&str>) -> MutexGuard<'_, ()> {
        self.lock(namespace.unwrap_or_default())
    }
}
