// SPDX-License-Identifier: Apache-2.0
//! The hosts in which measurements run: private Docker hosts of the lab, whose database is on a disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use ciao_tests::lab::Host;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// How long links may take to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a host with both daemons and no engine: nobody else calls them.
///
/// # Errors
/// As [`Host`]'s; temporary files are kept in memory.
pub fn without_docker(name: &str) -> Result<Host> {
    let host = with_docker(name)?;
    host.dockerd().stop()?;
    Ok(host)
}

/// Opens a host with both daemons and the engine.
///
/// # Errors
/// As [`without_docker`].
pub fn with_docker(name: &str) -> Result<Host> {
    require_disk(&std::env::temp_dir())?;
    Host::builder().name(name).start()
}

/// A folder beside the hosts', on the same disk.
///
/// # Errors
/// As [`without_docker`].
pub fn folder() -> Result<tempfile::TempDir> {
    require_disk(&std::env::temp_dir())?;
    tempfile::Builder::new().prefix("ciao-bench-").tempdir().context("make a folder")
}

/// A commit on a filesystem in memory costs nothing and would say nothing.
fn require_disk(folder: &Path) -> Result<()> {
    let kind = statfs(folder).with_context(|| format!("look at {}", folder.display()))?.filesystem_type();
    ensure!(kind != TMPFS_MAGIC, "{} is in memory: name a folder on a disk in TMPDIR", folder.display());
    Ok(())
}

/// The plugin socket of ciao-ipam.
#[must_use]
pub fn ipam_socket(host: &Host) -> PathBuf {
    host.path("/run/ciao/ciao-ipam.sock")
}

/// The plugin socket of ciao-net.
#[must_use]
pub fn net_socket(host: &Host) -> PathBuf {
    host.path("/run/ciao/ciao-net.sock")
}

/// The host's network namespace.
///
/// # Errors
/// The host has ended.
pub fn namespace(host: &Host) -> Result<File> {
    open_namespace(&Path::new("/proc").join(host.pid().to_string()).join("ns/net"))
}

/// A network namespace, by the path of its file.
///
/// # Errors
/// There is none.
pub fn open_namespace(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open network namespace {}", path.display()))
}

/// Runs `action` on a thread of its own inside a network namespace: sockets stay in the one they were opened in.
///
/// # Errors
/// Those of `action`.
pub fn inside<T: Send>(namespace: &File, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
            action()
        });
        thread.join().map_err(|_| anyhow!("a thread panicked"))?
    })
}

/// How many links the host's namespace has.
///
/// # Errors
/// The host has ended.
pub fn count_links(host: &Host) -> Result<usize> {
    Ok(fs::read_dir(host.path("/sys/class/net")).context("list links")?.count())
}

/// Waits until the host has that many links again: ciao-net deletes in the background.
///
/// # Errors
/// It has not after a minute.
pub fn wait_for_links(host: &Host, count: usize) -> Result<Duration> {
    let since = Instant::now();
    while count_links(host)? != count {
        ensure!(since.elapsed() < PATIENCE, "links are left after {PATIENCE:?}");
        sleep(Duration::from_millis(1));
    }
    Ok(since.elapsed())
}
