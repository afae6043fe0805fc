// SPDX-License-Identifier: Apache-2.0
//! `peers/main.go`, plugins on Docker's own helpers for Go, beside our daemons in one host: in memory, and with a
//! commit for each change.
//!
//! They are built in a root filesystem of Debian's, with its packages, so by the same compiler on every machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ciao_tests::lab::{Engine, Host};
use tempfile::TempDir;

use crate::host;

const SOURCE: &str = include_str!("../peers/main.go");
const BUILD: &str = "mount -t proc proc $1/proc && exec chroot $1 env GO111MODULE=off GOPATH=/usr/share/gocode \
                     GOCACHE=/build/cache CGO_ENABLED=0 go build -o /build/peer /build/main.go";

/// Builds the program.
///
/// # Errors
/// No root filesystem can be made; it does not build.
pub fn build() -> Result<PathBuf> {
    let root = Engine::go_root()?;
    let folder = root.join("build");
    fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("main.go"), SOURCE)).context("write the source")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", BUILD, "sh"]).arg(&root);
    let output = command.output().context("run unshare")?;
    ensure!(output.status.success(), "go build: {}", String::from_utf8_lossy(&output.stderr));
    Ok(folder.join("peer"))
}

/// A running pair. It ends when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    folder: TempDir,
}

impl Peer {
    /// Starts one in a host's network namespace.
    ///
    /// # Errors
    /// It does not answer.
    pub fn start(host: &Host, program: &Path, durable: bool) -> Result<Self> {
        let folder = host::folder()?;
        let mut command = Command::new(program);
        command.arg(folder.path()).args(durable.then(|| folder.path().join("peer.db")));
        let start = || command.stdout(Stdio::null()).spawn().context("start a peer");
        let child = host::inside(&host::namespace(host)?, start)?;
        let peer = Self { child, folder };
        let since = Instant::now();
        while !(peer.ipam_socket().exists() && peer.net_socket().exists()) {
            ensure!(since.elapsed() < Duration::from_secs(10), "a peer does not listen");
            sleep(Duration::from_millis(5));
        }
        Ok(peer)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The socket for addresses.
    #[must_use]
    pub fn ipam_socket(&self) -> PathBuf {
        self.folder.path().join("ipam.sock")
    }

    /// The socket for networks.
    #[must_use]
    pub fn net_socket(&self) -> PathBuf {
        self.folder.path().join("net.sock")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // One that has ended is waited for all the same.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
