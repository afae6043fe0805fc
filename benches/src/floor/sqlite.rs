// SPDX-License-Identifier: Apache-2.0
//! Raw commits: one row, one transaction, one `fsync`, with the settings of ciao's store (WAL, `synchronous=FULL`).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::{Connection, params};

use crate::numbers::Latencies;

/// A database of one table.
#[derive(Debug)]
pub struct Commits {
    connection: Connection,
    next: i64,
}

impl Commits {
    /// A new one in `folder`.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(folder: &Path) -> Result<Self> {
        let connection = Connection::open(folder.join("floor.db")).context("make a database")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch("CREATE TABLE row (id INTEGER PRIMARY KEY, address TEXT NOT NULL) STRICT")?;
        Ok(Self { connection, next: 0 })
    }

    /// Commits for some time: a row is inserted, then deleted, as an address is granted and released.
    ///
    /// # Errors
    /// The disk's.
    pub fn run(&mut self, time: Duration) -> Result<(Duration, Latencies)> {
        let mut latencies = Latencies::default();
        let mut insert = self.connection.prepare("INSERT INTO row (id, address) VALUES (?1, ?2)")?;
        let mut delete = self.connection.prepare("DELETE FROM row WHERE id = ?1")?;
        let start = Instant::now();
        while start.elapsed() < time {
            let begun = Instant::now();
            insert.execute(params![self.next, "10.200.0.5"])?;
            latencies.add(begun.elapsed());
            let begun = Instant::now();
            delete.execute([self.next])?;
            latencies.add(begun.elapsed());
            self.next += 1;
        }
        Ok((start.elapsed(), latencies))
    }
}
