//! One thread that makes all changes: requests that wait together share one transaction and one `fsync`.
//!
//! A lone request is taken at once, so nothing is delayed to fill a batch; under load the batch is what arrived while
//! the last commit ran. Each request has a savepoint of its own: it fails alone. Answers leave after the commit.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use rusqlite::Connection;

use super::{Tx, connection::explain};

/// Most requests in one transaction: bounds how long the first of them waits.
const BATCH: usize = 256;

/// The thread. Dropping it lets the requests in hand finish.
pub(super) struct Writer {
    requests: Option<Sender<Box<dyn Request>>>,
    thread: Option<JoinHandle<()>>,
}

/// A change that waits to be made, and somebody who waits for it.
trait Request: Send {
    /// Makes the change inside an open savepoint. `false`: undo it.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// Sends the answer, which `failed` overrides when the transaction did not commit.
    fn answer(self: Box<Self>, failed: Option<&str>);
}

struct Pending<T, F> {
    change: Option<F>,
    result: Option<Result<T>>,
    answer: SyncSender<Result<T>>,
}

impl<T, F> Request for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Tx<'_>) -> Result<T> + Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> bool {
        let change = self.change.take().expect("a request runs once");
        // A panic in a change is that request's error: the thread goes on for the others.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(tx)));
        let result = outcome.unwrap_or_else(|_| Err(anyhow!("a defect in ciao: the change panicked, see the log")));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
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
    pub(super) fn start(conn: Connection) -> Result<Self> {
        let (requests, waiting) = channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || serve(&conn, &waiting))
            .context("start the store's writer")?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    pub(super) fn run<T, F>(&self, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = sync_channel(1);
        let request = Box::new(Pending { change: Some(change), result: None, answer });
        let requests = self.requests.as_ref().context("the store is closed")?;
        requests.send(request).map_err(|_| anyhow!("the store's writer has ended"))?;
        answered.recv().context("the store's writer has ended")?
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

fn serve(conn: &Connection, waiting: &Receiver<Box<dyn Request>>) {
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        let committed = commit(conn, &mut batch, waiting);
        let failed = committed.err().map(|error| format!("{error:#}"));
        for request in batch {
            request.answer(failed.as_deref());
        }
    }
}

/// Runs `batch`, and what else is waiting by then, in one transaction.
fn commit(conn: &Connection, batch: &mut Vec<Box<dyn Request>>, waiting: &Receiver<Box<dyn Request>>) -> Result<()> {
    execute(conn, "BEGIN IMMEDIATE")?;
    let done = run_all(conn, batch, waiting).and_then(|()| execute(conn, "COMMIT"));
    if done.is_err() && !conn.is_autocommit() {
        // SQLite has rolled back already after some errors; after the others we must.
        drop(execute(conn, "ROLLBACK"));
    }
    done
}

fn run_all(conn: &Connection, batch: &mut Vec<Box<dyn Request>>, waiting: &Receiver<Box<dyn Request>>) -> Result<()> {
    let tx = Tx { conn };
    for next in 0..BATCH {
        if next == batch.len() {
            let Ok(request) = waiting.try_recv() else { break };
            batch.push(request);
        }
        execute(conn, "SAVEPOINT request")?;
        if !batch[next].run(&tx) {
            execute(conn, "ROLLBACK TO request")?;
        }
        execute(conn, "RELEASE request")?;
    }
    Ok(())
}

fn execute(conn: &Connection, statement: &str) -> Result<()> {
    conn.prepare_cached(statement).and_then(|mut s| s.execute([])).map(drop).map_err(explain)
}
