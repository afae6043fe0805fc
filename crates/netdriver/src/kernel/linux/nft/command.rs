//! nftables, by its own command: a script is one transaction. It starts in some 2 ms, of which a container's start has
//! hundreds, and its language is what an administrator reads in `nft list ruleset`.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::kernel::linux::namespace;

/// Runs a script in the calling thread's namespace, or another one.
pub(in crate::kernel) fn run(inside: Option<&File>, host: &File, script: &str) -> Result<()> {
    // A child is in the namespace that its parent's thread is in when it forks.
    let spawn = || {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().context("run nft (Debian: apt install nftables)")
    };
    let mut child = match inside {
        Some(file) => namespace::enter(file, host, spawn)?,
        None => spawn()?,
    };
    // When nft ends early its own words say why.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().context("wait for nft")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("nft: {}", words.lines().next().unwrap_or("no reason given"));
    }
    written.context("write to nft")
}

/// What `nft list` shows.
pub(in crate::kernel) fn list(inside: Option<&File>, host: &File, what: &[&str]) -> Result<String> {
    let list = || Command::new("nft").arg("list").args(what).output().context("run nft (Debian: apt install nftables)");
    let output = match inside {
        Some(file) => namespace::enter(file, host, list)?,
        None => list()?,
    };
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
