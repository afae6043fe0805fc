// SPDX-License-Identifier: Apache-2.0
//! [`Host`], one private Docker host: what a test holds and talks to.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::ciao::Ciao;
use super::namespaces::{Inside, Namespaces};
use super::{Builder, Daemon, Output, Process, workspace};

/// How long one script may take, in seconds: a plugin that hangs, hangs dockerd, and should not hang the test.
const SCRIPT_LIMIT: &str = "180";

/// A Docker host in namespaces of its own. Dropping it ends all its processes and removes its folder, which
/// `CIAO_KEEP=1` keeps: the daemons' logs, Docker's data and ciao's database.
#[derive(Debug)]
pub struct Host {
    // In the order of dropping: the daemons are gone before the namespaces.
    pub(super) dockerd: Daemon,
    pub(super) ciao: Option<Ciao>,
    pub(super) namespaces: Namespaces,
}

impl Host {
    /// A host with the machine's own engine and both ciao daemons, unless the builder is given others.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs a shell script inside (`sh -eu`) and returns its standard output, trimmed. An error holds what it printed
    /// on both outputs.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.try_sh(script)?.into_stdout(script)
    }

    /// Runs a shell script inside and returns how it ended: 124 if it took longer than three minutes.
    pub fn try_sh(&self, script: &str) -> Result<Output> {
        self.output(["timeout", SCRIPT_LIMIT, "sh", "-euc", script])
    }

    /// Runs the engine's own `docker` command and returns its standard output, trimmed.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        self.try_docker(args)?.into_stdout(&format!("docker {}", args.join(" ")))
    }

    /// Runs the engine's own `docker` command and returns how it ended: 124 if it took longer than three minutes.
    pub fn try_docker(&self, args: &[&str]) -> Result<Output> {
        self.output(["timeout", SCRIPT_LIMIT, "docker"].iter().chain(args))
    }

    /// A command that will run inside with this process's own standard streams; for a terminal.
    pub fn command<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Command {
        self.inside().command(argv)
    }

    /// Starts a command inside that keeps running; its output goes to the host's log `name`.
    pub fn spawn<S: AsRef<OsStr>>(&self, name: &str, argv: impl IntoIterator<Item = S>) -> Result<Process> {
        Process::spawn(self.inside(), name, argv)
    }

    /// Makes a network namespace as `ip netns add`, with the kernel's settings after a boot in place of the machine's.
    pub fn add_namespace(&self, name: &str) -> Result<()> {
        let settings = workspace().join("tests/lab/settings.sh");
        self.sh(&format!("ip netns add {name}; ip netns exec {name} sh {}", settings.display())).map(drop)
    }

    /// The engine. Its `start` waits until `docker info` answers.
    pub fn dockerd(&self) -> &Daemon {
        &self.dockerd
    }

    /// The network driver. Panics on a host that was opened without ciao.
    pub fn ciao_net(&self) -> &Daemon {
        &self.ciao.as_ref().expect("the host has ciao unless its builder excluded it").net
    }

    /// The IPAM driver. Panics on a host that was opened without ciao.
    pub fn ciao_ipam(&self) -> &Daemon {
        &self.ciao.as_ref().expect("the host has ciao unless its builder excluded it").ipam
    }

    /// Where a path of the host is found from outside, while the host lives.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.inside().path(inside)
    }

    /// The process id of the host's process 1 as the machine sees it, for `ip link set … netns` and nsenter.
    pub fn pid(&self) -> u32 {
        self.inside().pid()
    }

    fn inside(&self) -> &Inside {
        self.namespaces.inside()
    }

    fn output<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Result<Output> {
        let output = self.command(argv).stdin(Stdio::null()).output().context("enter the host")?;
        Ok(output.into())
    }
}
