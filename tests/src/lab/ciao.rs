// SPDX-License-Identifier: Apache-2.0
//! Puts ciao into a host: the two binaries, their spec files, their daemons. Taken from the build and from `deploy/`,
//! so that the tests run what a user installs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

use super::daemon::Daemon;
use super::namespaces::Inside;
use super::workspace;

/// The ciao daemons of a host.
#[derive(Debug)]
pub(super) struct Ciao {
    pub(super) net: Daemon,
    pub(super) ipam: Daemon,
}

impl Ciao {
    /// Installs both daemons inside and starts them, each with more arguments after `serve`.
    pub(super) fn start(inside: &Inside, net_args: &[OsString], ipam_args: &[OsString]) -> Result<Self> {
        for name in ["ciao-net", "ciao-ipam"] {
            install(inside, name)?;
        }
        let ipam = Daemon::new(inside.clone(), "ciao-ipam", serve("ciao-ipam", ipam_args), |inside| {
            inside.answers("/run/ciao/ciao-ipam.sock")
        });
        let net = Daemon::new(inside.clone(), "ciao-net", serve("ciao-net", net_args), |inside| {
            inside.answers("/run/ciao/ciao-net.sock") && inside.answers("/run/ciao/control.sock")
        });
        let net = net.settled_when(|inside| {
            let status = inside.get("/run/ciao/control.sock", "/v1/status");
            status.is_some_and(|status| !status.contains("first pass"))
        });
        ipam.start()?;
        net.start()?;
        Ok(Self { net, ipam })
    }
}

fn serve(name: &str, args: &[OsString]) -> Vec<OsString> {
    [name.into(), "serve".into()].into_iter().chain(args.iter().cloned()).collect()
}

/// Copies a binary, and does not bind it, so that a test of an upgrade can replace it.
fn install(inside: &Inside, name: &str) -> Result<()> {
    let binary = built(name)?;
    copy(&binary, &inside.path("/usr/local/bin").join(name))?;
    let spec = format!("{name}.spec");
    copy(&workspace().join("deploy").join(&spec), &inside.path("/etc/docker/plugins").join(&spec))
}

/// The binary of the build that this program is of, so that a test runs what was built with it; or that in the folder
/// `CIAO_BIN_DIR`.
pub fn built(name: &str) -> Result<PathBuf> {
    const BUILD: &str = "run `cargo build -p ciao-netdriver -p ciao-ipam`, for a release with --release";
    if let Some(folder) = env::var_os("CIAO_BIN_DIR") {
        let binary = Path::new(&folder).join(name);
        ensure!(binary.exists(), "{} is missing: CIAO_BIN_DIR names the folder of the binaries", binary.display());
        return Ok(binary);
    }
    let program = env::current_exe().context("find this program's folder")?;
    // Cargo puts tests one folder deeper than programs.
    let folders = program.ancestors().skip(1);
    let folder = folders.into_iter().find(|folder| !folder.ends_with("deps")).context("find the build's folder")?;
    let binary = folder.join(name);
    ensure!(binary.exists(), "{} is missing: {BUILD}", binary.display());
    if let Some(source) = newer_source(&binary)? {
        bail!("{} is older than {source}: {BUILD}", binary.display());
    }
    Ok(binary)
}

/// A source of a binary that was changed after it was built, by the list that cargo leaves beside it.
fn newer_source(binary: &Path) -> Result<Option<String>> {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let built = modified(binary).with_context(|| format!("look at {}", binary.display()))?;
    let Ok(list) = fs::read_to_string(binary.with_extension("d")) else { return Ok(None) };
    let mut sources = list.split_whitespace().skip(1);
    let newer = sources.find(|source| modified(Path::new(source)).is_ok_and(|modified| modified > built));
    Ok(newer.map(str::to_owned))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    // What is there may be the machine's own, perhaps a link; a new file belongs to the host alone.
    if to.symlink_metadata().is_ok() {
        fs::remove_file(to).with_context(|| format!("remove {}", to.display()))?;
    }
    // By a process of its own: whatever this one forks meanwhile would hold the new file open, and a program that is
    // open for writing does not start ("Text file busy").
    let copied = Command::new("cp").args([from, to]).status().context("run cp")?;
    ensure!(copied.success(), "copy {} to {}: {copied}", from.display(), to.display());
    Ok(())
}
