// SPDX-License-Identifier: Apache-2.0
//! Start and stop of a daemon: limits, lock, systemd.

use std::fs::OpenOptions;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

use super::lock_file::{self, Lock};
use super::sockets::create_folder_of;

/// Starts the log, and restricts new files to owner and group.
pub fn start(program: &str, version: &str) {
    super::log::start();
    // The database contains data of all tenants.
    umask(Mode::from_bits_truncate(0o027));
    log::info!("{program} {version}");
}

/// Raises the limit of open files to the hard limit, since each published port needs one. Returns the limit.
pub fn raise_file_limit() -> Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of open files")?;
    }
    Ok(hard)
}

/// Locks a database for one daemon of a kind, with a file beside it.
///
/// # Errors
/// Another daemon of that kind holds the lock; the folder cannot be written.
pub fn lock(database: &Path, program: &str) -> Result<Lock> {
    let path = database.with_file_name(format!("{program}.lock"));
    create_folder_of(&path)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    lock_file::lock(file, &path, || {
        format!("another {program} uses database {}: stop it first, or give this one another --db", database.display())
    })
}

/// Notifies systemd that the daemon is ready.
pub fn notify_ready() {
    notify(&sd_notify::NotifyState::Ready);
}

/// Notifies systemd that the daemon is shutting down.
pub fn notify_stopping() {
    notify(&sd_notify::NotifyState::Stopping);
}

fn notify(state: &sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        log::warn!("notify systemd of {state}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_on_a_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("ciao.db");
        let first = lock(&database, "ciao-x").unwrap();
        let error = format!("{:#}", lock(&database, "ciao-x").err().unwrap());
        assert!(error.contains("another ciao-x uses database"), "{error}");
        drop(first);
        lock(&database, "ciao-x").unwrap();
    }
}
