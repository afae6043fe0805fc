// SPDX-License-Identifier: Apache-2.0
//! [`LaunchLock`]: one launch at a time changes Docker's networks of a host. Docker creates two networks of one name if
//! asked at once; and whoever removes one must see the VNICs of all launches that continue with it.
//!
//! A lock on a file beside the control socket, of the same group and mode: users of the socket can hold the lock, and
//! nobody else can. The kernel drops it with its holder.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// How long a launch waits for the others. One may wait for dockerd, and that for the plugins.
const PATIENCE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(20);

/// The lock, not held yet.
#[derive(Debug)]
pub(super) struct LaunchLock {
    file: File,
    path: PathBuf,
    patience: Duration,
}

impl LaunchLock {
    /// Opens the lock of a control socket. The daemon does so at its start, so that the file has the daemon's group.
    pub(super) fn open(control: &Path) -> Result<Self> {
        let mut path = OsString::from(control);
        path.push(".lock");
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o660).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = options.open(&path).with_context(|| format!("open {}", path.display()))?;
        let found = file.metadata().with_context(|| format!("inspect {}", path.display()))?;
        ensure!(found.is_file(), "{} is not a regular file: remove it", path.display());
        // Whatever the umask is.
        if found.uid() == geteuid().as_raw() && found.permissions().mode() & 0o777 != 0o660 {
            file.set_permissions(Permissions::from_mode(0o660))
                .with_context(|| format!("set the mode of {}", path.display()))?;
        }
        Ok(Self { file, path, patience: PATIENCE })
    }

    /// Waits until no other launch holds it exclusively.
    pub(super) fn shared(&self) -> Result<()> {
        self.wait(File::try_lock_shared)
    }

    /// Waits until no other launch holds it.
    pub(super) fn exclusive(&self) -> Result<()> {
        self.wait(File::try_lock)
    }

    /// Releases it.
    pub(super) fn release(&self) -> Result<()> {
        self.file.unlock().with_context(|| format!("unlock {}", self.path.display()))
    }

    fn wait(&self, take: fn(&File) -> Result<(), TryLockError>) -> Result<()> {
        let since = Instant::now();
        loop {
            match take(&self.file) {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if since.elapsed() < self.patience => sleep(TICK),
                Err(TryLockError::WouldBlock) => bail!(
                    "another launch or terminate has held {} for {} seconds: see \"fuser -v {0}\"",
                    self.path.display(),
                    self.patience.as_secs()
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("lock {}", self.path.display()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn exclusive_and_shared_locks_exclude_each_other_and_waiting_ends() {
        let folder = tempfile::tempdir().unwrap();
        let open = || LaunchLock {
            patience: Duration::ZERO,
            ..LaunchLock::open(&folder.path().join("control.sock")).unwrap()
        };
        let (first, second) = (open(), open());
        first.shared().unwrap();
        second.shared().unwrap();
        let error = format!("{:#}", second.exclusive().unwrap_err());
        assert!(
            error.contains("another launch or terminate has held") && error.contains("control.sock.lock"),
            "{error}"
        );
        first.release().unwrap();
        second.exclusive().unwrap();
        assert!(first.shared().is_err());
        drop(second);
        first.exclusive().unwrap();
    }

    #[test]
    fn the_lock_is_the_owner_s_and_the_group_s() {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("control.sock");
        let path = folder.path().join("control.sock.lock");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        LaunchLock::open(&control).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        fs::remove_file(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        assert!(LaunchLock::open(&control).is_err());
    }
}
