//! The host's own firewall, as far as it stands in the way.
//!
//! dockerd sets the host's FORWARD policy to DROP, and `bridge-nf-call-iptables` sends bridged frames through it: two
//! containers on an existing bridge of the host would not hear each other, and tenants' uplinks would lead nowhere.
//! Docker's chain for such rules is DOCKER-USER, which it never empties; where it is not, FORWARD itself is the place.
//! Only the table of whoever drops can accept, so these few rules go by its own command.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use crate::kernel::FirewallOpening;

/// The two protocol families have a command each.
const COMMANDS: [&str; 2] = ["iptables", "ip6tables"];

/// Waits for whoever else changes rules now, for so many seconds: a call has an end.
const PATIENCE: [&str; 2] = ["-w", "3"];

/// Lets a opening pass.
pub(super) fn open(opening: &FirewallOpening) -> Result<()> {
    for command in COMMANDS {
        let Some(chain) = chain(command) else { continue };
        for rule in rules(opening) {
            if !run(command, "-C", chain, &rule)?.status.success() {
                let output = run(command, "-I", chain, &rule)?;
                if !output.status.success() {
                    bail!("{command} -I {chain}: {}", String::from_utf8_lossy(&output.stderr).trim());
                }
            }
        }
    }
    Ok(())
}

/// Takes it back.
pub(super) fn close(opening: &FirewallOpening) -> Result<()> {
    for command in COMMANDS {
        for chain in ["DOCKER-USER", "FORWARD"] {
            for rule in rules(opening) {
                if has_chain(command, chain) {
                    run(command, "-D", chain, &rule)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether tables of the older iptables are in use, beside nftables.
pub(in crate::kernel::linux) fn is_legacy() -> bool {
    let used = |file| std::fs::read_to_string(file).is_ok_and(|tables| !tables.trim().is_empty());
    used("/proc/net/ip_tables_names") || used("/proc/net/ip6_tables_names")
}

fn rules(opening: &FirewallOpening) -> Vec<Vec<String>> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    match opening {
        FirewallOpening::Bridge(bridge) => vec![words(&format!("-i {bridge} -o {bridge} -j ACCEPT"))],
        FirewallOpening::Uplinks => vec![words("-i cu+ -j ACCEPT"), words("-o cu+ -j ACCEPT")],
    }
}

/// Where a rule must stand; `None` where no iptables is, and so nothing drops. After somebody's `iptables -F` Docker's
/// chain is still there, but nothing leads to it.
fn chain(command: &str) -> Option<&'static str> {
    let jump = ["-C", "FORWARD", "-j", "DOCKER-USER"];
    let led_to = Command::new(command).args(PATIENCE).args(jump).output().is_ok_and(|output| output.status.success());
    if led_to { Some("DOCKER-USER") } else { has_chain(command, "FORWARD").then_some("FORWARD") }
}

fn has_chain(command: &str, chain: &str) -> bool {
    let listed = Command::new(command).args(PATIENCE).args(["-n", "-L", chain]).output();
    listed.is_ok_and(|output| output.status.success())
}

fn run(command: &str, action: &str, chain: &str, rule: &[String]) -> Result<Output> {
    Command::new(command)
        .args(PATIENCE)
        .args([action, chain])
        .args(rule)
        .output()
        .with_context(|| format!("run {command}"))
}
