// SPDX-License-Identifier: Apache-2.0
//! [`Daemon`], a service inside a host that tests stop, kill and start again: dockerd, ciao-net, ciao-ipam. All three
//! are one type, since a fault test does the same to each.

use std::ffi::OsString;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::namespaces::Inside;
use super::output::last_lines;
use super::process::Process;

/// How long a daemon may take to serve. dockerd waits 15 seconds for each call to a plugin that does not answer.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a killed process may take to be dead.
const DYING: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// How much of a log an error quotes.
const TAIL: usize = 30;

/// A service of a host, running or not.
#[derive(Debug)]
pub struct Daemon {
    inside: Inside,
    name: &'static str,
    argv: Vec<OsString>,
    /// Whether it serves already.
    ready: fn(&Inside) -> bool,
    /// Whether what it does first, while it serves, is done.
    settled: fn(&Inside) -> bool,
    process: Mutex<Option<Process>>,
}

impl Daemon {
    pub(super) fn new(inside: Inside, name: &'static str, argv: Vec<OsString>, ready: fn(&Inside) -> bool) -> Self {
        Self { inside, name, argv, ready, settled: |_| true, process: Mutex::new(None) }
    }

    pub(super) fn settled_when(self, settled: fn(&Inside) -> bool) -> Self {
        Self { settled, ..self }
    }

    /// Starts the daemon and waits until it serves and its first pass is done; returns how long that took. An error if
    /// it runs already, ends, or is not ready in 90 seconds, with the end of its log.
    pub fn start(&self) -> Result<Duration> {
        self.start_within(PATIENCE)
    }

    /// As [`Self::start`], with more patience.
    pub fn start_within(&self, patience: Duration) -> Result<Duration> {
        let served = self.start_serving(patience)?;
        Ok(served + self.settle()?)
    }

    /// Waits until what the daemon does first, while it serves, is done; returns how long that took.
    pub fn settle(&self) -> Result<Duration> {
        let since = Instant::now();
        while !(self.settled)(&self.inside) {
            ensure!(self.is_running() && since.elapsed() < PATIENCE, "{}'s first pass does not end", self.name);
            thread::sleep(POLL);
        }
        Ok(since.elapsed())
    }

    /// Starts the daemon and waits until it serves; returns how long that took.
    pub fn start_serving(&self, patience: Duration) -> Result<Duration> {
        let since = Instant::now();
        let mut process = self.process();
        ensure!(!process.as_ref().is_some_and(Process::is_running), "{} runs already", self.name);
        let process = process.insert(Process::spawn(&self.inside, self.name, &self.argv)?);
        while !(self.ready)(&self.inside) {
            if !process.is_running() || since.elapsed() > patience {
                bail!("{} does not serve:\n{}", self.name, last_lines(&process.log()?, TAIL));
            }
            thread::sleep(POLL);
        }
        Ok(since.elapsed())
    }

    /// SIGTERM, waits until it has ended, and returns how. An error if it did not run.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.take()?.stop()
    }

    /// SIGKILL, and waits until it is dead. An error if it did not run.
    pub fn kill(&self) -> Result<()> {
        self.take()?.kill().map(drop)
    }

    /// Starts the daemon after another process killed it: waits until it is dead, then as [`Self::start`]. An error if
    /// it lives on for five seconds.
    pub fn start_again(&self) -> Result<Duration> {
        let since = Instant::now();
        while self.is_running() {
            ensure!(since.elapsed() < DYING, "{} was to be killed, and runs", self.name);
            thread::sleep(Duration::from_millis(1));
        }
        self.start()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process().as_ref().is_some_and(Process::is_running)
    }

    /// Its process id as the machine sees it. An error if it does not run.
    pub fn pid(&self) -> Result<u32> {
        let process = self.process();
        let process = process.as_ref().filter(|process| process.is_running());
        Ok(process.with_context(|| format!("{} does not run", self.name))?.pid())
    }

    /// Its log since the host was opened.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.inside.log(self.name)).with_context(|| format!("read the log of {}", self.name))
    }

    fn take(&self) -> Result<Process> {
        self.process().take().filter(Process::is_running).with_context(|| format!("{} does not run", self.name))
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
