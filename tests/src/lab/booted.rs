// SPDX-License-Identifier: Apache-2.0
//! [`Booted`], a private host on which systemd runs, from a bare root filesystem of a Debian suite: for what happens
//! when packages come and go. Docker is there, ciao is not.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Engine, Output, image, workspace};

/// How long systemd may take until Docker answers.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(200);
/// How long one script may take, in seconds.
const SCRIPT_LIMIT: &str = "300";

const SCRIPTS: [(&str, &str); 2] =
    [("systemd.sh", include_str!("../../lab/systemd.sh")), ("boot.sh", include_str!("../../lab/boot.sh"))];

/// A host under systemd. Dropping it ends all its processes and removes its folder.
#[derive(Debug)]
pub struct Booted {
    dir: PathBuf,
    pid: u32,
    script: Child,
    /// The host ends when this closes, also when the kernel closes it because this process was killed.
    lifeline: Option<ChildStdin>,
}

impl Booted {
    /// Boots a suite's systemd with its Docker Engine, and waits until both answer. The root filesystem is made once.
    pub fn start(suite: Engine, name: &str) -> Result<Self> {
        Self::start_with(suite, name, None)
    }

    /// The same with one more package on the root filesystem.
    pub fn start_with(suite: Engine, name: &str, package: Option<&str>) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "the lab needs root: run it with sudo");
        let lower = suite.systemd_root(package)?;
        let dir = tempfile::Builder::new().prefix(&format!("ciao-lab-{name}-")).tempdir()?.keep();
        for (file, text) in SCRIPTS {
            fs::write(dir.join(file), text)?;
        }
        let mut script = Command::new("sh")
            .arg(dir.join("systemd.sh"))
            .args([dir.as_os_str(), name.as_ref(), lower.as_os_str(), workspace().as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // or Ctrl-C would end the script before it has swept up
            .spawn()
            .context("run systemd.sh")?;
        let lifeline = script.stdin.take();
        let mut pid = String::new();
        if let Some(stdout) = script.stdout.take() {
            BufReader::new(stdout).read_line(&mut pid)?;
        }
        let mut host = Self { dir, pid: 0, script, lifeline };
        host.pid = pid.trim().parse().context("make the namespaces")?;
        host.wait_until_running()?;
        host.sh(image::IMPORT).context("make the image busybox")?;
        Ok(host)
    }

    fn wait_until_running(&self) -> Result<()> {
        let since = Instant::now();
        loop {
            // Docker is the last that starts, and "running" is everything that should.
            let output = self.try_sh("systemctl is-system-running && docker info >/dev/null")?;
            if output.code == 0 {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                let failed = self.try_sh("systemctl --no-pager --failed; systemctl list-jobs --no-pager")?;
                bail!("systemd is {:?}: {}", output.stdout, failed.stdout);
            }
            thread::sleep(POLL);
        }
    }

    /// Runs a shell script inside (`sh -eu`) and returns its standard output, trimmed. An error holds both outputs.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.try_sh(script)?.into_stdout(script)
    }

    /// Runs a shell script inside and returns how it ended: 124 if it took longer than five minutes.
    pub fn try_sh(&self, script: &str) -> Result<Output> {
        let output = self.command(["timeout", SCRIPT_LIMIT, "sh", "-euc", script]).output().context("run nsenter")?;
        Ok(output.into())
    }

    /// A command that will run inside, as root, in `/`, with a clean environment.
    pub fn command<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--all", "--root", "--wd", "--"]);
        command.args(["env", "-i", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]);
        command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(argv).stdin(Stdio::null());
        command
    }

    /// Where a path of the host is found from outside.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        Path::new("/proc").join(self.pid.to_string()).join("root").join(relative)
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if let Err(error) = self.script.wait() {
            eprintln!("lab: wait for systemd.sh: {error}");
        }
        if self.dir.exists() {
            eprintln!("lab: kept {}", self.dir.display());
        }
    }
}
