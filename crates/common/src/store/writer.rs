// SPDX-License-Identifier: Apache-2.0
//! The thread that makes all changes. Waiting changes share one transaction and one `fsync`.
//!
//! A single change is run at once, so nothing is delayed to fill a batch; under load a batch is what arrived during the
//! last commit. Each change has its own savepoint, and fails alone. Results are sent after the commit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::clock::Clock;
use super::connection::OpenFile;
use super::file::explain;
use super::schema;
use super::tx::Tx;

/// Maximum number of changes in one transaction, which bounds the wait of the first.
const BATCH: usize = 256;

/// A change that waited longer is not made: its caller has received a timeout and gone on.
const PATIENCE: Duration = Duration::from_secs(4);

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

/// The result of a change, available after its commit. Await it, or [`wait`](Self::wait) for it.
#[must_use]
pub struct Answer<T>(oneshot::Receiver<Result<T>>);

impl<T> Answer<T> {
    /// Blocks the calling thread, which must not belong to an async runtime, until the commit.
    pub fn wait(self) -> Result<T> {
        self.0.blocking_recv().context(ENDED)?
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Result<T>> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.context(ENDED)?)
    }
}

const ENDED: &str = "the store's writer thread has ended: restart the daemon, and see its log";

/// A waiting change.
trait Change: Send {
    /// Runs the change. `false`: roll it back.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// The error of the change.
    fn error(&self) -> String;
    /// Sends the result, or `failed` if the transaction was not committed.
    fn answer(self: Box<Self>, failed: Option<&str>);
}

struct PendingChange<T, F> {
    change: Option<F>,
    since: Instant,
    only_while_awaited: bool,
    result: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F> Change for PendingChange<T, F>
where
    T: Send,
    F: FnOnce(&Tx<'_>) -> Result<T> + Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> bool {
        let (change, since) = (self.change.take(), self.since);
        let left = self.only_while_awaited && self.answer.is_closed();
        // A panic is an error of that change only.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ensure!(!left, "the caller is gone: the change was not made");
            ensure!(
                since.elapsed() < PATIENCE,
                "the disk is slow: the change waited for {PATIENCE:?} and was not made"
            );
            change.context("internal error (please report): a change was run twice")?(tx)
        }));
        let result = outcome
            .unwrap_or_else(|_| Err(anyhow!("internal error (please report): the change panicked, see the log")));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn error(&self) -> String {
        let error = self.result.as_ref().and_then(|result| result.as_ref().err());
        error.map_or_else(
            || "internal error (please report): a change ignored an error".to_owned(),
            |error| format!("{error:#}"),
        )
    }

    fn answer(self: Box<Self>, failed: Option<&str>) {
        let result = match (failed, self.result) {
            // The change's own error is more specific, and nothing was changed either way.
            (_, Some(Err(error))) => Err(error),
            (Some(reason), _) => Err(anyhow!("{reason}")),
            (None, result) => result.unwrap_or_else(|| Err(anyhow!("the change was not made"))),
        };
        // The receiver is gone if the call timed out: the change stands, and reconcile will see it.
        drop(self.answer.send(result));
    }
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

    pub(super) fn begin<T, F>(&self, change: F, only_while_awaited: bool) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let request = Box::new(PendingChange {
            change: Some(change),
            since: Instant::now(),
            only_while_awaited,
            result: None,
            answer,
        });
        if let Some(requests) = &self.requests {
            // If the thread has ended, the result is an error.
            drop(requests.send(request));
        }
        Answer(answered)
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
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        let usable = file.check().and_then(|()| schema::check_unchanged(conn));
        let committed = usable.and_then(|()| commit(&Tx { conn, clock }, &mut batch, waiting));
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
    if done.is_err() && !conn.is_autocommit() {
        // SQLite has rolled back after some errors, not after all.
        drop(execute(conn, "ROLLBACK"));
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
        if kept {
            execute(conn, "SAVEPOINT change")?;
        } else if conn.is_autocommit() {
            begin(conn, batch, waiting)?;
        }
        let done = batch[next].run(tx);
        // A full disk, for example, rolls back all.
        let undone = (kept || done) && conn.is_autocommit();
        ensure!(!undone, "the database rolled back the transaction, nothing was changed: {}", batch[next].error());
        match (kept, done) {
            (true, true) => execute(conn, "RELEASE change")?,
            (true, false) => {
                execute(conn, "ROLLBACK TO change")?;
                execute(conn, "RELEASE change")?;
            }
            (false, true) => kept = true,
            (false, false) if conn.is_autocommit() => {}
            (false, false) => execute(conn, "ROLLBACK")?,
        }
    }
    Ok(kept)
}

fn begin(conn: &Connection, batch: &mut Vec<Box<dyn Change>>, waiting: &Receiver<Box<dyn Change>>) -> Result<()> {
    let begun = execute(conn, "BEGIN IMMEDIATE");
    if begun.is_err() {
        // Changes that arrived meanwhile fail with it: each alone would wait as long again.
        batch.extend(waiting.try_iter());
    }
    begun
}

fn execute(conn: &Connection, statement: &str) -> Result<()> {
    conn.prepare_cached(statement).and_then(|mut s| s.execute([])).map(drop).map_err(explain)
}
