// SPDX-License-Identifier: Apache-2.0
//! One thread that makes all changes: requests that wait together share one transaction and one `fsync`.
//!
//! A lone request is taken at once, so nothing is delayed to fill a batch; under load the batch is what arrived while
//! the last commit ran. Each request has a savepoint of its own: it fails alone. Answers leave after the commit.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::connection::OpenFile;
use super::file::explain;
use super::schema;
use super::tx::Tx;

/// Most requests in one transaction: bounds how long the first of them waits.
const BATCH: usize = 256;

/// A request that waited longer for its turn is not made any more: whoever asked has been told by then that there is
/// no answer, and has gone on.
const PATIENCE: Duration = Duration::from_secs(4);

/// The thread. Dropping it lets the requests in hand finish.
pub(super) struct Writer {
    requests: Option<Sender<Box<dyn Request>>>,
    thread: Option<JoinHandle<()>>,
}

/// What a change will have returned once it is on the disk. Await it, or [`wait`](Self::wait) for it.
#[must_use]
pub struct Answer<T>(oneshot::Receiver<Result<T>>);

impl<T> Answer<T> {
    /// Blocks the calling thread, which is none of an async runtime's own, until the change is on the disk.
    ///
    /// # Errors
    /// The change's, or the disk's: then nothing was changed.
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

const ENDED: &str = "the store's writer has ended: restart the daemon, and see its log";

/// A change that waits to be made, and somebody who waits for it.
trait Request: Send {
    /// Makes the change. `false`: undo it.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// Why the change was not made.
    fn error(&self) -> String;
    /// Sends the answer, which `failed` overrides when the transaction did not commit.
    fn answer(self: Box<Self>, failed: Option<&str>);
}

struct Pending<T, F> {
    change: Option<F>,
    since: Instant,
    only_while_awaited: bool,
    result: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F> Request for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Tx<'_>) -> Result<T> + Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> bool {
        let (change, since) = (self.change.take(), self.since);
        let left = self.only_while_awaited && self.answer.is_closed();
        // A panic in a change is that request's error: the thread goes on for the others.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ensure!(!left, "nobody awaits the change any more");
            ensure!(
                since.elapsed() < PATIENCE,
                "the disk is slow: the change waited for {PATIENCE:?} and was not made"
            );
            change.context("a defect in ciao: a change runs once")?(tx)
        }));
        let result = outcome.unwrap_or_else(|_| Err(anyhow!("a defect in ciao: the change panicked, see the log")));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn error(&self) -> String {
        let error = self.result.as_ref().and_then(|result| result.as_ref().err());
        error.map_or_else(|| "a change passed over an error".to_owned(), |error| format!("{error:#}"))
    }

    fn answer(self: Box<Self>, failed: Option<&str>) {
        let result = match (failed, self.result) {
            // A change's own error is the better answer, and it changed nothing either way.
            (_, Some(Err(error))) => Err(error),
            (Some(reason), _) => Err(anyhow!("{reason}")),
            (None, result) => result.unwrap_or_else(|| Err(anyhow!("the change was not made"))),
        };
        // Nobody waits any more when the call ran out of time: the change stands, and reconcile will see it.
        drop(self.answer.send(result));
    }
}

impl Writer {
    pub(super) fn start(conn: Connection, file: OpenFile) -> Result<Self> {
        let (requests, waiting) = channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || serve(&conn, &file, &waiting))
            .context("start the store's writer")?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    pub(super) fn begin<T, F>(&self, change: F, only_while_awaited: bool) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let request =
            Box::new(Pending { change: Some(change), since: Instant::now(), only_while_awaited, result: None, answer });
        if let Some(requests) = &self.requests {
            // To a writer that has ended nothing is sent: the answer says so.
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

fn serve(conn: &Connection, file: &OpenFile, waiting: &Receiver<Box<dyn Request>>) {
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        let usable = file.check().and_then(|()| schema::check_unchanged(conn));
        let committed = usable.and_then(|()| commit(conn, &mut batch, waiting));
        let failed = committed.err().map(|error| format!("{error:#}"));
        for request in batch {
            request.answer(failed.as_deref());
        }
    }
    // So that the file alone is whole, whoever else has it open: copies of it are taken between two runs.
    if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(explain) {
        log::warn!("move the log into the database: {error:#}; the next start does so");
    }
}

/// Runs `batch`, and what else is waiting by then, in one transaction.
fn commit(conn: &Connection, batch: &mut Vec<Box<dyn Request>>, waiting: &Receiver<Box<dyn Request>>) -> Result<()> {
    let done = run_all(conn, batch, waiting).and_then(|kept| if kept { execute(conn, "COMMIT") } else { Ok(()) });
    if done.is_err() && !conn.is_autocommit() {
        // SQLite has rolled back already after some errors; after the others we must.
        drop(execute(conn, "ROLLBACK"));
    }
    done
}

/// `true`: something is to be committed.
fn run_all(conn: &Connection, batch: &mut Vec<Box<dyn Request>>, waiting: &Receiver<Box<dyn Request>>) -> Result<bool> {
    let tx = Tx { conn };
    let mut kept = false;
    for next in 0..BATCH {
        if next == batch.len() {
            let Ok(request) = waiting.try_recv() else { break };
            batch.push(request);
        }
        // Until there is something to keep, the transaction itself is the savepoint: a lone request needs no other.
        if kept {
            execute(conn, "SAVEPOINT request")?;
        } else if conn.is_autocommit() {
            begin(conn, batch, waiting)?;
        }
        let done = batch[next].run(&tx);
        // A full disk, for one, undoes all.
        let undone = (kept || done) && conn.is_autocommit();
        ensure!(!undone, "nothing was changed, since the database undid the transaction: {}", batch[next].error());
        match (kept, done) {
            (true, true) => execute(conn, "RELEASE request")?,
            (true, false) => {
                execute(conn, "ROLLBACK TO request")?;
                execute(conn, "RELEASE request")?;
            }
            (false, true) => kept = true,
            (false, false) if conn.is_autocommit() => {}
            (false, false) => execute(conn, "ROLLBACK")?,
        }
    }
    Ok(kept)
}

fn begin(conn: &Connection, batch: &mut Vec<Box<dyn Request>>, waiting: &Receiver<Box<dyn Request>>) -> Result<()> {
    let begun = execute(conn, "BEGIN IMMEDIATE");
    if begun.is_err() {
        // Who came meanwhile has waited for the same thing: each on its own would wait as long again.
        batch.extend(waiting.try_iter());
    }
    begun
}

fn execute(conn: &Connection, statement: &str) -> Result<()> {
    conn.prepare_cached(statement).and_then(|mut s| s.execute([])).map(drop).map_err(explain)
}
