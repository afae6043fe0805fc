// SPDX-License-Identifier: Apache-2.0
//! What the server has in flight: requests, buffered bodies, turns of its event loops while it shuts down, and refusals
//! of which not all are logged.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;

use crate::sync::lock;

/// Bytes of request bodies buffered at a time, over all connections.
pub(super) const BUFFER_LIMIT: usize = 8 << 20;
/// The first bytes of each body do not count, so that usual calls are served even if the buffers are full.
const FREE: usize = 16 << 10;

/// Refusals logged per [`WINDOW`].
const LOGGED: u32 = 100;
const WINDOW: Duration = Duration::from_secs(60);
/// Characters of a refusal that are logged.
const LINE: usize = 1000;
/// Time between two counted turns of an event loop.
const TURN: Duration = Duration::from_millis(20);

/// Requests in flight, their buffered bodies, and whether the process is shutting down.
#[derive(Default)]
pub(super) struct Progress {
    requests: AtomicUsize,
    begun: AtomicUsize,
    buffered: AtomicUsize,
    draining: watch::Sender<bool>,
    turns: Mutex<Vec<Arc<AtomicUsize>>>,
    refusals: Mutex<Option<Refusals>>,
}

/// Refusals since the begin of a window.
struct Refusals {
    since: Instant,
    logged: u32,
    omitted: u64,
}

impl Progress {
    pub(super) fn in_flight(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// Requests since the start.
    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Acquire)
    }

    pub(super) fn drain(&self) {
        self.draining.send_replace(true);
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Counts turns of the event loop that this runs on, from the shutdown on.
    pub(super) async fn count_turns(self: Arc<Self>) {
        let turns = Arc::<AtomicUsize>::default();
        lock(&self.turns).push(Arc::clone(&turns));
        drop(self.draining.subscribe().wait_for(|draining| *draining).await);
        loop {
            sleep(TURN).await;
            turns.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Waits until nothing was in flight for so many turns of each event loop: what had arrived before is read then.
    pub(super) async fn quiet(&self, turns: usize) {
        let now = || lock(&self.turns).iter().map(|turns| turns.load(Ordering::Acquire)).collect::<Vec<_>>();
        let (mut seen, mut since) = (self.begun(), now());
        while now().iter().zip(&since).any(|(now, since)| now - since < turns) {
            sleep(TURN).await;
            let begun = self.begun();
            if begun != seen || self.in_flight() > 0 {
                (seen, since) = (begun, now());
            }
        }
    }

    /// Logs a refusal, unless there were too many. Their number is logged with a later one.
    pub(super) fn log_refusal(&self, level: log::Level, path: &str, reason: &str) {
        let mut refusals = lock(&self.refusals);
        let window = refusals.get_or_insert_with(|| Refusals { since: Instant::now(), logged: 0, omitted: 0 });
        if window.since.elapsed() >= WINDOW {
            if window.omitted > 0 {
                log::warn!("{} further refusals were not logged", window.omitted);
            }
            *window = Refusals { since: Instant::now(), logged: 0, omitted: 0 };
        }
        if window.logged == LOGGED {
            window.omitted += 1;
            return;
        }
        window.logged += 1;
        let reason: String = reason.chars().take(LINE).collect();
        log::log!(level, "{path} refused: {reason}");
        if window.logged == LOGGED {
            log::warn!("more than {LOGGED} refusals within {WINDOW:?}: further ones are counted only");
        }
    }
}

/// A request in flight, until dropped.
pub(super) struct InFlight(Arc<Progress>);

impl InFlight {
    pub(super) fn new(progress: &Arc<Progress>) -> Self {
        progress.begun.fetch_add(1, Ordering::AcqRel);
        progress.requests.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(progress))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The buffer of one request, counted until dropped.
pub(super) struct Buffer<'a> {
    progress: &'a Progress,
    bytes: usize,
}

impl<'a> Buffer<'a> {
    pub(super) fn new(progress: &'a Progress) -> Self {
        Self { progress, bytes: 0 }
    }

    /// Whether the buffer may grow to this size.
    pub(super) fn grow_to(&mut self, size: usize) -> bool {
        let more = size.saturating_sub(FREE).saturating_sub(self.bytes);
        let total = self.progress.buffered.fetch_add(more, Ordering::AcqRel) + more;
        self.bytes += more;
        more == 0 || total <= BUFFER_LIMIT
    }

    /// Gives up the buffer.
    pub(super) fn clear(&mut self) {
        self.progress.buffered.fetch_sub(std::mem::take(&mut self.bytes), Ordering::AcqRel);
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_refusals_a_few_are_logged_and_the_others_counted() {
        let progress = Progress::default();
        for _ in 0..100_000 {
            progress.log_refusal(log::Level::Warn, "/Driver.Method", &"x".repeat(2 * LINE));
        }
        let count = || {
            let window = progress.refusals.lock().unwrap();
            window.as_ref().map(|window| (window.logged, window.omitted)).unwrap()
        };
        assert_eq!(count(), (LOGGED, 100_000 - u64::from(LOGGED)));
        progress.refusals.lock().unwrap().as_mut().unwrap().since -= WINDOW;
        progress.log_refusal(log::Level::Warn, "/Driver.Method", "");
        assert_eq!(count(), (1, 0), "a new window");
    }

    #[test]
    fn buffers_are_bounded_together_and_small_bodies_are_free() {
        let progress = Progress::default();
        let mut buffers: Vec<_> = (0..8).map(|_| Buffer::new(&progress)).collect();
        assert!(buffers.iter_mut().all(|buffer| buffer.grow_to(BUFFER_LIMIT / 8)));
        let mut more = Buffer::new(&progress);
        assert!(more.grow_to(FREE) && !more.grow_to(FREE + 8 * FREE + 1));
        drop((buffers, more));
        assert_eq!(progress.buffered(), 0);
    }
}
