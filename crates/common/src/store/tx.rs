// SPDX-License-Identifier: Apache-2.0
//! Transactions.

use std::time::Duration;

use rusqlite::Connection;

use super::clock::Clock;
use super::memory::Memory;

/// A transaction, or a snapshot for reading. Its methods are in the files of the tables.
pub struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) clock: Clock,
    pub(super) memory: &'a Memory,
}

impl Tx<'_> {
    /// Now, in milliseconds.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// The time of `by` before now.
    pub fn ago(&self, by: Duration) -> i64 {
        self.clock.ago(by)
    }
}
