// SPDX-License-Identifier: Apache-2.0
//! firewalld, where it runs. Its own table rejects what none of its zones accepts, whatever other tables do, so the
//! tenants' uplinks go into its zone `trusted`, as dockerd puts its bridges into a zone of its own; ciao's table
//! filters it. It is configured over D-Bus, again after each reload.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// The uplinks, as firewalld writes names of links, and as nft does.
const UPLINKS: (&str, &str) = ("cu+", "\"cu*\"");

/// Lets the uplinks pass, if firewalld runs and has them in no zone.
pub(super) fn open() -> Result<()> {
    if knows_uplinks() != Some(false) {
        return Ok(());
    }
    let output = ask("addInterface")?;
    if !output.status.success() {
        bail!("put {} into firewalld's zone trusted: {}", UPLINKS.0, String::from_utf8_lossy(&output.stderr).trim());
    }
    log::info!("firewalld is running: added interfaces {} to its zone trusted", UPLINKS.0);
    Ok(())
}

/// Takes it back.
pub(super) fn close() -> Result<()> {
    if knows_uplinks() == Some(true) {
        // Refused where an administrator has them in another zone.
        ask("removeInterface")?;
    }
    Ok(())
}

/// Whether a zone of firewalld's has the uplinks; `None` where firewalld does not run with a table of its own. The
/// chain that dispatches to zones is called otherwise since firewalld 2, so the whole table is read, without its sets'
/// elements.
fn knows_uplinks() -> Option<bool> {
    let mut list = Command::new("nft");
    list.args(["--terse", "list", "table", "inet", "firewalld"]);
    let output = list.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).contains(UPLINKS.1))
}

fn ask(method: &str) -> Result<Output> {
    let method = format!("org.fedoraproject.FirewallD1.zone.{method}");
    Command::new("dbus-send")
        .args([
            "--system",
            "--print-reply",
            "--reply-timeout=3000",
            "--dest=org.fedoraproject.FirewallD1",
            "/org/fedoraproject/FirewallD1",
        ])
        .args([method.as_str(), "string:trusted", &format!("string:{}", UPLINKS.0)])
        .output()
        .context("run dbus-send (Debian: apt install dbus)")
}
