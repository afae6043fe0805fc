// SPDX-License-Identifier: Apache-2.0
//! Transactions.

use std::cell::Cell;
use std::time::Duration;

use anyhow::Result;
use rusqlite::Connection;

use super::clock::Clock;
use super::memory::Memory;

/// A transaction, or a snapshot for reading. Its methods are in the files of the tables.
pub struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) clock: Clock,
    pub(super) memory: &'a Memory,
    /// Whether the change that runs is undone alone: by a savepoint, or as the first of its transaction.
    pub(super) guarded: Cell<bool>,
}

impl Tx<'_> {
    /// Sets the savepoint of a change that was [begun without](super::Store::begin_unguarded), unless there is one.
    /// What was written before is not undone by it.
    pub fn guard(&self) -> Result<()> {
        if !self.guarded.get() {
            self.change("SAVEPOINT change", [])?;
            self.guarded.set(true);
        }
        Ok(())
    }

    /// Now, in milliseconds.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// The time of `by` before now.
    pub fn ago(&self, by: Duration) -> i64 {
        self.clock.ago(by)
    }
}
