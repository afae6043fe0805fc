// SPDX-License-Identifier: Apache-2.0
//! A change that waits for the writer, and its result.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::oneshot;

use super::tx::Tx;

/// A change that waited longer is not made: its caller has received a timeout and gone on.
const PATIENCE: Duration = Duration::from_secs(4);

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
pub(super) trait Change: Send {
    /// Whether it needs a savepoint.
    fn is_guarded(&self) -> bool;
    /// Runs the change. `false`: roll it back.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// The error of the change.
    fn error(&self) -> String;
    /// Sends the result, or `failed` if the transaction was not committed.
    fn answer(self: Box<Self>, failed: Option<&str>);
}

pub(super) struct PendingChange<T, F> {
    change: Option<F>,
    since: Instant,
    guarded: bool,
    only_while_awaited: bool,
    result: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F> PendingChange<T, F> {
    pub(super) fn new(change: F, guarded: bool, only_while_awaited: bool) -> (Self, Answer<T>) {
        let (answer, answered) = oneshot::channel();
        let since = Instant::now();
        (Self { change: Some(change), since, guarded, only_while_awaited, result: None, answer }, Answer(answered))
    }
}

impl<T, F> Change for PendingChange<T, F>
where
    T: Send,
    F: FnOnce(&Tx<'_>) -> Result<T> + Send,
{
    fn is_guarded(&self) -> bool {
        self.guarded
    }

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
