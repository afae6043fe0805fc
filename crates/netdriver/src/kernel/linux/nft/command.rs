// SPDX-License-Identifier: Apache-2.0
//! nft's command: a script is one transaction. It takes some 2 ms, of the hundreds of a container's start, and its
//! language is what an administrator reads in `nft list ruleset`.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

const MISSING: &str = "run nft (Debian: apt install nftables)";

/// Runs a script in the calling thread's namespace.
pub(in crate::kernel::linux) fn run(script: &str) -> Result<()> {
    finish(start()?, script)
}

/// Starts nft in the calling thread's namespace, for [`finish`].
pub(super) fn start() -> Result<Child> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().context(MISSING)
}

/// Runs a script in an nft that was started.
pub(super) fn finish(mut nft: Child, script: &str) -> Result<()> {
    // When nft ends early, its own error is the cause.
    let written = nft.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    let output = nft.wait_with_output().context("wait for nft")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("nft: {}", error.lines().next().unwrap_or("no reason given"));
    }
    written.context("write to nft")
}

/// Runs `nft list` in the calling thread's namespace, with nft's options.
pub(in crate::kernel::linux) fn list(options: &[&str], what: &[&str]) -> Result<String> {
    let output = Command::new("nft").args(options).arg("list").args(what).output().context(MISSING)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
