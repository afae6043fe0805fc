// SPDX-License-Identifier: Apache-2.0
//! Periodic tasks of a daemon.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

/// How long the shutdown waits for a running task.
const PATIENCE: Duration = Duration::from_secs(5);

/// A periodic task. Dropping it waits for the current run and stops it.
pub struct Timer {
    name: &'static str,
    stop: Option<Sender<()>>,
    stopped: Receiver<()>,
}

/// Runs `work` immediately, and again `period` after each run ends, in a thread called `name`. Errors and panics are
/// logged and do not stop the timer.
///
/// # Errors
/// The thread cannot be started.
pub fn every(name: &'static str, period: Duration, work: impl FnMut() -> Result<()> + Send + 'static) -> Result<Timer> {
    let (stop, stopping) = channel();
    let (ended, stopped) = channel();
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            repeat(name, period, &stopping, work);
            drop(ended);
        })
        .with_context(|| format!("start timer {name}"))?;
    Ok(Timer { name, stop: Some(stop), stopped })
}

/// Does work once, with a panic as its error: a thread that serves many goes on.
///
/// # Errors
/// Those of `work`, and a panic.
pub fn attempt(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(anyhow!("internal error (please report): panic, see above")))
}

fn repeat(name: &str, period: Duration, stopping: &Receiver<()>, mut work: impl FnMut() -> Result<()>) {
    loop {
        if let Err(error) = attempt(&mut work) {
            log::error!("{name}: {error:#}; next try in {period:?}");
        }
        if stopping.recv_timeout(period) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.stopped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            log::warn!("{} still runs after {PATIENCE:?}: stopping without it", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_that_fails_or_panics_is_repeated() {
        let (done, seen) = channel();
        let mut calls = 0;
        let timer = every("test", Duration::from_millis(1), move || {
            calls += 1;
            let _ = done.send(calls);
            match calls % 3 {
                0 => panic!("expected by the test"),
                1 => Err(anyhow!("expected by the test")),
                _ => Ok(()),
            }
        });
        let seen: Vec<i32> = seen.iter().take(7).collect();
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
        drop(timer.unwrap());
    }

    #[test]
    fn a_dropped_timer_has_released_its_references() {
        let subject = Arc::new(());
        let held = Arc::clone(&subject);
        let (done, seen) = channel();
        let timer = every("test", Duration::from_secs(3600), move || {
            let _held = &held;
            Ok(done.send(())?)
        });
        seen.recv().unwrap();
        let since = Instant::now();
        drop(timer.unwrap());
        assert!(since.elapsed() < PATIENCE && Arc::strong_count(&subject) == 1);
    }
}
