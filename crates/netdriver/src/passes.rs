// SPDX-License-Identifier: Apache-2.0
//! What reconciliation has done since the start, for metrics and checks.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Counters of whole passes.
#[derive(Default)]
pub(crate) struct Passes {
    repaired: AtomicU64,
    failed: AtomicU64,
    failing: AtomicU64,
    last: AtomicI64,
    last_good: AtomicI64,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PassCounts {
    /// Repairs that were made.
    pub(crate) repaired: u64,
    /// Repairs that failed.
    pub(crate) failed: u64,
    /// Those that failed in the last pass.
    pub(crate) failing: u64,
    /// When the last pass ended, and the last one without a failure; milliseconds since 1970, 0: none yet.
    pub(crate) last: i64,
    pub(crate) last_good: i64,
}

impl Passes {
    /// A pass has ended.
    pub(crate) fn add(&self, repaired: usize, failed: usize, now: i64) {
        self.repaired.fetch_add(repaired as u64, Ordering::Relaxed);
        self.failed.fetch_add(failed as u64, Ordering::Relaxed);
        self.failing.store(failed as u64, Ordering::Relaxed);
        self.last.store(now, Ordering::Relaxed);
        if failed == 0 {
            self.last_good.store(now, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> PassCounts {
        PassCounts {
            repaired: self.repaired.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            failing: self.failing.load(Ordering::Relaxed),
            last: self.last.load(Ordering::Relaxed),
            last_good: self.last_good.load(Ordering::Relaxed),
        }
    }
}
