// SPDX-License-Identifier: Apache-2.0
//! Lock files that only their owner can open, so that no other user of the host can hold them.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;

/// Where claims are, and the sockets unless told otherwise.
pub const FOLDER: &str = "/run/ciao";

/// That this process alone manages the network namespace it runs in, for as long as this lives.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// Claims the network namespace that the process runs in, for a program. The file is named after the namespace, so that
/// hosts which share `folder`, as containers may, do not get into each other's way; the kernel drops the lock with the
/// process, however that ends.
///
/// # Errors
/// Another process of that program manages it, with whatever database.
pub fn claim_namespace(folder: &Path, program: &str) -> Result<Claim> {
    let namespace = fs::metadata("/proc/self/ns/net").context("look up this network namespace")?.ino();
    let path = folder.join(format!("{program}.{namespace}.lock"));
    match Flock::lock(open_private(&path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Claim(lock)),
        Err((_, Errno::EWOULDBLOCK)) => {
            bail!("another {program} runs on this host: it would delete what the other one made; stop it first")
        }
        Err((_, errno)) => Err(errno).with_context(|| format!("lock {}", path.display())),
    }
}

/// Opens a lock file of mode 0600, made unless it is there. One that somebody else made is refused: they could hold it.
///
/// # Errors
/// It belongs to another user, is no regular file, or its folder cannot be written.
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
    let found = file.metadata().with_context(|| format!("look at {}", path.display()))?;
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
        let first = claim_namespace(folder.path(), "ciao-test").unwrap();
        let error = format!("{:#}", claim_namespace(folder.path(), "ciao-test").unwrap_err());
        assert!(error.contains("another ciao-test runs on this host"), "{error}");
        claim_namespace(folder.path(), "ciao-other").unwrap();
        drop(first);
        claim_namespace(folder.path(), "ciao-test").unwrap();
    }

    #[test]
    fn nobody_else_can_open_a_lock_file_and_so_hold_it() {
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
