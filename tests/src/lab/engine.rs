// SPDX-License-Identifier: Apache-2.0
//! [`Engine`], whose Docker Engine a host runs: the machine's own, or that of a Debian suite, from a root filesystem
//! which debootstrap makes once and which then serves every host as the lower layer of its overlay.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;

use super::namespaces::find_in;
use super::output::last_lines;

/// What a root filesystem under systemd has besides.
const SYSTEMD: &str = "systemd,systemd-sysv,dbus,udev,iputils-ping";

/// Go, and what plugins in Go are made with.
const GO: &str = "golang-go,golang-github-docker-go-plugins-helpers-dev,golang-github-vishvananda-netlink-dev,\
                  golang-github-coreos-bbolt-dev";

/// A Docker Engine that a host can run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// What is installed on this machine
    #[default]
    Machine,
    /// Debian 12, Docker 20.10
    Bookworm,
    /// Debian 13, Docker 26.1
    Trixie,
    /// Debian 14, Docker 28.5
    Forky,
}

impl Engine {
    /// The engine that `CIAO_ENGINE` names, so that the same tests run on each; the machine's without.
    pub fn from_environment() -> Result<Self> {
        let Ok(name) = env::var("CIAO_ENGINE") else {
            return Ok(Self::default());
        };
        Self::from_str(&name, false)
            .map_err(|_| anyhow!("CIAO_ENGINE is machine, bookworm, trixie or forky, not {name:?}"))
    }

    /// The root filesystem to put a host's overlay on; made if it is a suite's and missing, which takes half a minute
    /// and the network.
    pub(super) fn root(self) -> Result<PathBuf> {
        if self == Self::Machine {
            return Ok(PathBuf::from("/"));
        }
        self.made("", self.packages())
    }

    /// The same with systemd and the rest of a small server, for a suite; and with another package.
    pub(super) fn systemd_root(self, more: Option<&str>) -> Result<PathBuf> {
        ensure!(self != Self::Machine, "systemd is booted from a suite's root filesystem, not from the machine's");
        let [kind, more] = ["-", ","].map(|sign| more.map(|package| format!("{sign}{package}")).unwrap_or_default());
        self.made(&format!("-systemd{kind}"), &format!("{},{SYSTEMD}{more}", self.packages()))
    }

    /// A root filesystem of a suite that has Go and Docker's helpers for plugins, to build with.
    pub fn go_root() -> Result<PathBuf> {
        Self::Trixie.made("-go", GO)
    }

    /// The root filesystem with these packages, made if it is missing.
    fn made(self, kind: &str, packages: &str) -> Result<PathBuf> {
        let (cache, name) = (cache(), format!("{self}{kind}"));
        let root = cache.join(&name);
        fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
        // Two tests may want the same suite at once; the second waits and finds it made.
        let lock = File::create(cache.join(format!("{name}.lock")))?;
        lock.lock().context("wait for another debootstrap")?;
        if !root.exists() {
            bootstrap(self, packages, &root).with_context(|| format!("make the root filesystem {}", root.display()))?;
        }
        Ok(root)
    }

    fn packages(self) -> &'static str {
        match self {
            // The command line is a package of its own since trixie.
            Self::Machine | Self::Bookworm => {
                "docker.io,iptables,iproute2,ca-certificates,busybox-static,procps,sqlite3,nftables"
            }
            Self::Trixie | Self::Forky => {
                "docker.io,docker-cli,iptables,iproute2,ca-certificates,busybox-static,procps,sqlite3,nftables"
            }
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "machine",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        })
    }
}

/// Where what the lab downloads is kept.
pub(super) fn cache() -> PathBuf {
    env::var_os("CIAO_LAB_CACHE").map_or_else(|| PathBuf::from("/var/cache/ciao-lab"), PathBuf::from)
}

/// Makes `root`, under another name until it is complete.
fn bootstrap(suite: Engine, packages: &str, root: &Path) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "debootstrap needs root: run it with sudo");
    find_in(Path::new("/"), "debootstrap").context("there is no debootstrap: apt-get install debootstrap")?;
    let mirror = mirror()?;
    let partial = root.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    eprintln!("lab: debootstrap {suite} from {mirror} into {}", root.display());
    // In namespaces, so that a debootstrap that fails leaves neither mounts nor daemons.
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "debootstrap", "--variant=minbase"])
        .arg(format!("--include={packages}"))
        .arg(suite.to_string())
        .args([partial.as_os_str(), mirror.as_ref(), script(suite).as_os_str()])
        // Or mount would make a folder in the machine's /run.
        .env("LIBMOUNT_UTAB", root.with_extension("mounts"))
        .output()
        .context("run debootstrap")?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let log = fs::read_to_string(partial.join("debootstrap/debootstrap.log")).unwrap_or_default();
        bail!("debootstrap failed; does {mirror} answer?\n{}", last_lines(&(printed + &log), 15));
    }
    fs::rename(&partial, root).with_context(|| format!("rename {}", partial.display()))
}

/// debootstrap's script for the suite. An older debootstrap has none for a newer suite, and takes sid's.
fn script(suite: Engine) -> PathBuf {
    let scripts = Path::new("/usr/share/debootstrap/scripts");
    let own = scripts.join(suite.to_string());
    if own.exists() { own } else { scripts.join("sid") }
}

/// The archive that the machine's own apt uses, which is near and reachable, if it is Debian's.
fn mirror() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .output()
        .context("ask apt-get for the machine's mirror")?;
    let archives = String::from_utf8_lossy(&output.stdout).into_owned();
    let mirror = archives.lines().find(|archive| archive.trim_end_matches('/').ends_with("/debian"));
    Ok(mirror.context("the machine's apt sources name no Debian archive to debootstrap from")?.to_owned())
}
