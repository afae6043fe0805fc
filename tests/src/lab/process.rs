// SPDX-License-Identifier: Apache-2.0
//! [`Process`], a command that keeps running inside a host, with its process id as the machine sees it. `nsenter`
//! stands between us and the command, because a process id namespace is only entered by a fork; a signal has to go to
//! its child.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{ffi::OsStr, os::unix::process::CommandExt, thread};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::namespaces::Inside;

/// How long a process may take to end after SIGTERM. dockerd gives its containers 15 seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A running command inside a host. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    nsenter: Mutex<Child>,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts `argv` inside; standard output and error are appended to the log of `name`.
    pub(super) fn spawn<S: AsRef<OsStr>>(
        inside: &Inside,
        name: &str,
        argv: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let log = inside.log(name);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open {}", log.display()))?;
        let mut nsenter = inside
            .command(argv)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0) // Ctrl-C in `lab shell` is not for the daemons
            .spawn()
            .with_context(|| format!("run {name}"))?;
        let pid = wait_for_child_of(&mut nsenter).with_context(|| format!("run {name}, see {}", log.display()))?;
        Ok(Self { nsenter: Mutex::new(nsenter), pid, log })
    }

    /// The process id as the machine sees it, for `/proc` and tools outside.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// Sends a signal. Nothing happens if the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.pid.try_into().context("read a process id")?);
        match kill(pid, signal) {
            // It ended by itself in this moment.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("send {signal} to {pid}")),
        }
    }

    /// SIGKILL, and waits until it is dead.
    pub fn kill(&self) -> Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.wait()
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait()
    }

    /// Waits until it ends; an error after a minute.
    pub fn wait(&self) -> Result<ExitStatus> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child().try_wait()? {
                return Ok(status);
            }
            if since.elapsed() > PATIENCE {
                bail!("process {} has not ended in {PATIENCE:?}, see {}", self.pid, self.log.display());
            }
            thread::sleep(POLL);
        }
    }

    /// Its output so far.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.nsenter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("lab: {error:#}");
        }
    }
}

/// The process that `nsenter` forks.
fn wait_for_child_of(nsenter: &mut Child) -> Result<u32> {
    loop {
        if let Some(child) = child_of(nsenter.id())? {
            return Ok(child);
        }
        if let Some(status) = nsenter.try_wait()? {
            bail!("it ended at once: {status}");
        }
        thread::sleep(POLL);
    }
}

/// Searches `/proc` for a process with this parent: the kernel's own list of children needs an option that not every
/// kernel is built with.
fn child_of(parent: u32) -> Result<Option<u32>> {
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && parent_of(pid) == Some(parent)
        {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// The fourth field of `stat`, counted from the command's closing bracket, as a command may contain blanks (proc(5)).
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}
