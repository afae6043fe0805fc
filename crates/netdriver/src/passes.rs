// SPDX-License-Identifier: Apache-2.0
//! What reconciliation has done since the start, for metrics and checks.

/// Counters of whole passes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passes {
    /// Repairs that were made.
    pub(crate) repaired: usize,
    /// Repairs that failed.
    pub(crate) failed: usize,
    /// Those that failed in the last pass.
    pub(crate) failing: usize,
    /// When the last pass ended, and the last one without a failure; milliseconds since 1970, 0: none yet.
    pub(crate) last: i64,
    pub(crate) last_good: i64,
}

impl Passes {
    /// A pass has ended.
    pub(crate) fn add(&mut self, repaired: usize, failed: usize, now: i64) {
        self.repaired += repaired;
        self.failed += failed;
        (self.failing, self.last) = (failed, now);
        if failed == 0 {
            self.last_good = now;
        }
    }
}
