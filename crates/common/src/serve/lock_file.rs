// SPDX-License-Identifier: Apache-2.0
//! Lock files that other users cannot open, and so cannot hold.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;

/// Default folder of lock files and sockets.
pub const FOLDER: &str = "/run/ciao";

/// A lock file that is held until this is dropped. The kernel releases it when the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// Locks a file; `taken` is the error if another process has it.
pub(super) fn lock(file: File, path: &Path, taken: impl FnOnce() -> String) -> Result<Lock> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map(Lock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => anyhow!(taken()),
        errno => anyhow!(errno).context(format!("lock {}", path.display())),
    })
}

/// Locks the network namespace of the process for a program. The file is named after the namespace, so that hosts that
/// share `folder`, as containers may, do not conflict.
///
/// # Errors
/// Another process of the program manages this namespace, with any database.
pub fn lock_namespace(folder: &Path, program: &str) -> Result<Lock> {
    let namespace = fs::metadata("/proc/self/ns/net").context("look up the network namespace")?.ino();
    let path = folder.join(format!("{program}.{namespace}.lock"));
    lock(open_private(&path)?, &path, || {
        format!("another {program} runs on this host, and two would delete each other's links: stop it first")
    })
}

/// Opens a lock file of mode 0600, created if missing. A file of another user is refused: they could hold the lock.
///
/// # Errors
/// The file belongs to another user or is not a regular file; its folder cannot be written.
pub fn open_private(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.with_context(|| format!("create folder {}", folder.display()))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    let found = file.metadata().with_context(|| format!("inspect {}", path.display()))?;
    ensure!(
        found.is_file() && found.uid() == geteuid().as_raw(),
        "{} belongs to user {}, who could hold this lock: remove it",
        path.display(),
        found.uid()
    );
    if found.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))
            .with_context(|| format!("set the mode of {}", path.display()))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_daemon_of_a_kind() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock_namespace(folder.path(), "ciao-test").unwrap();
        let error = format!("{:#}", lock_namespace(folder.path(), "ciao-test").unwrap_err());
        assert!(error.contains("another ciao-test runs on this host"), "{error}");
        lock_namespace(folder.path(), "ciao-other").unwrap();
        drop(first);
        lock_namespace(folder.path(), "ciao-test").unwrap();
    }

    #[test]
    fn a_lock_file_is_private_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/x.lock");
        open_private(&path).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        open_private(&path).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_link_or_a_folder_in_a_lock_s_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("x.lock"), folder.path().join("precious"));
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(open_private(&path).is_err());
        assert!(!target.exists(), "nothing is made where the link leads");
        assert!(open_private(folder.path()).is_err());
    }
}
