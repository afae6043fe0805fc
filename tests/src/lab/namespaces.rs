// SPDX-License-Identifier: Apache-2.0
//! `Namespaces`, an empty host without any daemon, and `Inside`, the way into it. The work is done by a few short shell
//! scripts in `tests/lab/`, because it is all mount, unshare and nsenter; here they are started and, in the end, let
//! go.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::workspace;

const SCRIPTS: [(&str, &str); 5] = [
    ("host.sh", include_str!("../../lab/host.sh")),
    ("leaf.sh", include_str!("../../lab/leaf.sh")),
    ("init.sh", include_str!("../../lab/init.sh")),
    ("settings.sh", include_str!("../../lab/settings.sh")),
    ("enter.sh", include_str!("../../lab/enter.sh")),
];

/// The way into a host, valid as long as its [`Namespaces`] live.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    dir: PathBuf,
    pid: u32,
}

impl Inside {
    /// A command that will run inside, as root, in `/`, with a clean environment.
    pub(super) fn command<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("sh");
        command.arg(self.dir.join("enter.sh")).args(argv);
        command
    }

    /// Where a path of the host is found from outside.
    pub(super) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        Path::new("/proc").join(self.pid.to_string()).join("root").join(relative)
    }

    /// The process id of the host's process 1, as the machine sees it.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The file outside that holds the output of the program `name`.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    /// Whether somebody listens on a Unix socket inside.
    pub(super) fn accepts(&self, socket: &str) -> bool {
        UnixStream::connect(self.path(socket)).is_ok()
    }

    /// Whether something at a socket of the host answers HTTP: a daemon may accept connections, or systemd for it, long
    /// before it is ready.
    pub(super) fn answers(&self, socket: &str) -> bool {
        self.get(socket, "/").is_some_and(|reply| reply.starts_with("HTTP/"))
    }

    /// The whole reply to a GET at a socket of the host, if there is one within a second.
    pub(super) fn get(&self, socket: &str, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.path(socket)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: ciao\r\nConnection: close\r\n\r\n").ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        Some(reply)
    }
}

/// The namespaces, mounts and folder of one host. Dropping them ends every process inside.
#[derive(Debug)]
pub(super) struct Namespaces {
    inside: Inside,
    script: Child,
    /// Process 1 ends when this closes, also when the kernel closes it because this process was killed.
    lifeline: Option<ChildStdin>,
}

impl Namespaces {
    /// Makes a host above the root filesystem `lower`.
    pub(super) fn open(name: &str, lower: &Path) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "the lab needs root: run it with sudo");
        for tool in ["unshare", "nsenter", "pivot_root", "mount", "ip"] {
            find_in(Path::new("/"), tool)
                .with_context(|| format!("the lab needs `{tool}`: apt-get install util-linux iproute2"))?;
        }
        let dir = make_folder(name)?;
        let path = dir.join("log/host.log");
        let stderr = File::create(&path)?;
        // The folder goes with the script, an open log does not.
        let mut log = File::open(path).context("open the host's log")?;
        let mut script = Command::new("sh")
            .arg(dir.join("host.sh"))
            .args([dir.as_os_str(), name.as_ref(), lower.as_os_str(), workspace().as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0) // or Ctrl-C would end the script before it has swept up
            .spawn()
            .context("run host.sh")?;
        let lifeline = script.stdin.take();
        let mut pid = String::new();
        if let Some(stdout) = script.stdout.take() {
            BufReader::new(stdout).read_line(&mut pid)?;
        }
        let Ok(pid) = pid.trim().parse() else {
            drop(lifeline);
            script.wait()?;
            let mut printed = String::new();
            log.read_to_string(&mut printed)?;
            bail!("make the namespaces of host {name}: {}", printed.trim());
        };
        fs::write(dir.join("pid"), format!("{pid}\n"))?;
        Ok(Self { inside: Inside { dir, pid }, script, lifeline })
    }

    pub(super) fn inside(&self) -> &Inside {
        &self.inside
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if let Err(error) = self.script.wait() {
            eprintln!("lab: wait for host.sh: {error}");
        }
        if self.inside.dir.exists() {
            eprintln!("lab: kept {}", self.inside.dir.display());
        }
    }
}

/// Makes the host's folder, with the scripts in it. The folder is removed by host.sh and not by this process, which may
/// be killed.
fn make_folder(name: &str) -> Result<PathBuf> {
    let folder =
        tempfile::Builder::new().prefix(&format!("ciao-lab-{name}-")).tempdir().context("make the host's folder")?;
    for (file, text) in SCRIPTS {
        fs::write(folder.path().join(file), text)?;
    }
    fs::create_dir(folder.path().join("log"))?;
    Ok(folder.keep())
}

/// The program `tool` in the root filesystem `root`, as a path inside it.
pub(super) fn find_in(root: &Path, tool: &str) -> Option<PathBuf> {
    ["usr/sbin", "usr/bin", "sbin", "bin"]
        .iter()
        .map(|folder| Path::new(folder).join(tool))
        .find(|path| root.join(path).exists())
}
