//! dockerd sets the host's FORWARD policy to DROP, and `bridge-nf-call-iptables` sends bridged frames through it: two
//! containers on an existing bridge of the host would not hear each other. Docker's chain for such rules is DOCKER-USER,
//! which it never empties; without dockerd's chains nothing drops and nothing is done.
//!
//! Tenants' own namespaces need none of this.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use ciao_common::types::LinkName;

/// The two protocol families have a command each. `-w`: wait for whoever else changes rules now.
const COMMANDS: [&str; 2] = ["iptables", "ip6tables"];
const CHAIN: &str = "DOCKER-USER";

/// Lets frames between ports of a bridge pass.
pub(super) fn accept(bridge: &LinkName) -> Result<()> {
    for command in COMMANDS {
        if has_chain(command) && !run(command, "-C", bridge)?.status.success() {
            let output = run(command, "-I", bridge)?;
            if !output.status.success() {
                bail!("{command} -I {CHAIN}: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
        }
    }
    Ok(())
}

/// Takes it back.
pub(super) fn forget(bridge: &LinkName) -> Result<()> {
    for command in COMMANDS {
        if has_chain(command) {
            run(command, "-D", bridge)?;
        }
    }
    Ok(())
}

fn has_chain(command: &str) -> bool {
    let listed = Command::new(command).args(["-w", "-n", "-L", CHAIN]).output();
    listed.is_ok_and(|output| output.status.success())
}

fn run(command: &str, action: &str, bridge: &LinkName) -> Result<Output> {
    Command::new(command)
        .args(["-w", action, CHAIN, "-i", bridge.as_str(), "-o", bridge.as_str(), "-j", "ACCEPT"])
        .output()
        .with_context(|| format!("run {command}"))
}
