// SPDX-License-Identifier: Apache-2.0
//! The thread that makes all changes. Waiting changes share one transaction and one `fsync`.
//!
//! A single change is run at once, so nothing is delayed to fill a batch; under load a batch is what arrived during the
//! last commit. A change that can fail after it has written has its own savepoint, and fails alone. Results are sent
//! after the commit.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use tokio::sync::watch;

use super::clock::Clock;
use super::connection::OpenFile;
use super::file::explain;
use super::memory::Memory;
use super::pending::{Answer, Change, PendingChange};
use super::schema;
use super::tx::Tx;

/// Maximum number of changes in one transaction, which bounds the wait of the first.
const BATCH: usize = 256;

/// Commits since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commits {
    /// Transactions.
    pub commits: u64,
    /// Changes in them.
    pub changes: u64,
}

/// The latest number of commits, which can be awaited.
pub type Committed = watch::Receiver<Commits>;

/// The thread. Dropping it completes the waiting changes.
pub(super) struct Writer {
    commits: Arc<watch::Sender<Commits>>,
    requests: Option<Sender<Box<dyn Change>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(conn: Connection, clock: Clock, file: OpenFile) -> Result<Self> {
        let (requests, waiting) = channel();
        let commits = Arc::<watch::Sender<Commits>>::default();
        let counted = Arc::clone(&commits);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || serve(&conn, clock, &file, &waiting, &counted))
            .context("start the store's writer")?;
        Ok(Self { commits, requests: Some(requests), thread: Some(thread) })
    }

    pub(super) fn commits(&self) -> &watch::Sender<Commits> {
        &self.commits
    }

    pub(super) fn begin<T, F>(&self, change: F, guarded: bool, only_while_awaited: bool) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (request, answer) = PendingChange::new(change, guarded, only_while_awaited);
        if let Some(requests) = &self.requests {
            // If the thread has ended, the result is an error.
            drop(requests.send(Box::new(request)));
        }
        answer
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(
    conn: &Connection,
    clock: Clock,
    file: &OpenFile,
    waiting: &Receiver<Box<dyn Change>>,
    counted: &watch::Sender<Commits>,
) {
    let memory = Memory::default();
    let tx = Tx { conn, clock, memory: &memory, guarded: Cell::new(true) };
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        let committed = file.check().and_then(|()| commit(&tx, &mut batch, waiting));
        if let Ok(true) = committed {
            counted.send_modify(|count| {
                count.commits += 1;
                count.changes += batch.len() as u64;
            });
        }
        let failed = committed.err().map(|error| format!("{error:#}"));
        for request in batch {
            request.answer(failed.as_deref());
        }
    }
    // So that the file alone is complete, even if others have it open: copies may be taken between two runs.
    if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(explain) {
        log::warn!("checkpoint the database: {error:#}; the next start does so");
    }
}

/// Runs `batch` and all other waiting changes in one transaction. `false`: nothing was to be committed.
fn commit(tx: &Tx<'_>, batch: &mut Vec<Box<dyn Change>>, waiting: &Receiver<Box<dyn Change>>) -> Result<bool> {
    let conn = tx.conn;
    let done = run_all(tx, batch, waiting).and_then(|kept| {
        if kept {
            execute(conn, "COMMIT")?;
        }
        Ok(kept)
    });
    if done.is_err() {
        tx.memory.forget();
        // SQLite has rolled back after some errors, not after all.
        if !conn.is_autocommit() {
            drop(execute(conn, "ROLLBACK"));
        }
    }
    done
}

/// `true`: there is something to commit.
fn run_all(tx: &Tx<'_>, batch: &mut Vec<Box<dyn Change>>, waiting: &Receiver<Box<dyn Change>>) -> Result<bool> {
    let conn = tx.conn;
    let mut kept = false;
    for next in 0..BATCH {
        if next == batch.len() {
            let Ok(request) = waiting.try_recv() else { break };
            batch.push(request);
        }
        // While there is nothing to commit, the transaction itself is the savepoint.
        if conn.is_autocommit() {
            begin(tx, batch, waiting)?;
        }
        tx.guarded.set(!kept);
        if batch[next].is_guarded() {
            tx.guard()?;
        }
        let written = conn.total_changes();
        let done = batch[next].run(tx);
        if !done {
            tx.memory.forget();
        }
        // A full disk, for example, rolls back all.
        let (savepoint, is_half) = (kept && tx.guarded.get(), kept && !done && conn.total_changes() != written);
        let undone = (kept || done) && conn.is_autocommit() || is_half && !savepoint;
        ensure!(!undone, "the database rolled back the transaction, nothing was changed: {}", batch[next].error());
        match (kept, done) {
            (true, true) if savepoint => execute(conn, "RELEASE change")?,
            (true, false) if savepoint => {
                execute(conn, "ROLLBACK TO change")?;
                execute(conn, "RELEASE change")?;
            }
            (true, _) => {}
            (false, true) => kept = true,
            (false, false) if conn.is_autocommit() => {}
            (false, false) => execute(conn, "ROLLBACK")?,
        }
    }
    Ok(kept)
}

fn begin(tx: &Tx<'_>, batch: &mut Vec<Box<dyn Change>>, waiting: &Receiver<Box<dyn Change>>) -> Result<()> {
    let begun = execute(tx.conn, "BEGIN IMMEDIATE");
    if begun.is_err() {
        // Changes that arrived meanwhile fail with it: each alone would wait as long again.
        batch.extend(waiting.try_iter());
    }
    begun?;
    let version = tx.first("PRAGMA data_version", [], |row| row.get(0))?.unwrap_or_default();
    if !tx.memory.is_of(version) {
        schema::check_unchanged(tx.conn)?;
        tx.memory.begin(version);
    }
    Ok(())
}

fn execute(conn: &Connection, statement: &str) -> Result<()> {
    conn.prepare_cached(statement).and_then(|mut s| s.execute([])).map(drop).map_err(explain)
}
