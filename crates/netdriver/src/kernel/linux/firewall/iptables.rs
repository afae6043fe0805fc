// SPDX-License-Identifier: Apache-2.0
//! The chains by iptables and ip6tables: listed by `-S`, changed by one transaction of `iptables-restore`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use ciao_common::types::Family;

use super::chain::{self, CHAIN, Chains, Rule};
use crate::kernel::FirewallOpening;

/// Waits for whoever else changes rules now, for so many seconds: a call has an end.
const PATIENCE: [&str; 2] = ["-w", "3"];
/// iptables(8): a table that it cannot read; and a kernel without its tables, where rules are nftables' alone.
const FOREIGN: i32 = 1;
const NO_TABLES: i32 = 3;

/// The chains, out of one list of the table; `None` where there is no iptables.
pub(super) fn list(family: Family) -> Result<Option<Chains>> {
    let command = command(family);
    let output = match Command::new(command).args(PATIENCE).arg("-S").output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output.with_context(|| format!("run {command}"))?,
    };
    match output.status.code() {
        Some(0) => Ok(Some(read(&String::from_utf8_lossy(&output.stdout)))),
        Some(FOREIGN | NO_TABLES) => Ok(None),
        _ => bail!("{command} -S: {}", words(&output)),
    }
}

fn read(table: &str) -> Chains {
    let mut chains = Chains::default();
    for line in table.lines() {
        match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
            ["-P", "FORWARD", policy] => chains.policy = Some(policy.to_owned()),
            ["-N", CHAIN] => chains.own = Some(Vec::new()),
            ["-A", CHAIN, _] => chains.own.get_or_insert_default().push(line.to_owned()),
            ["-A", "DOCKER-USER", _] => chains.docker_user.push(line.to_owned()),
            ["-A", "FORWARD", rule] => chains.forward.push(Rule {
                text: line.to_owned(),
                is_jump: rule.strip_prefix("-j ") == Some(CHAIN),
                is_final: rule == "-j DROP" || rule.starts_with("-j REJECT"),
            }),
            _ => {}
        }
    }
    chains
}

/// Makes ciao's chain hold the rules of `openings`, in last place; without any, nothing of it is left, unless it is
/// kept.
pub(super) fn open(family: Family, chains: &Chains, openings: &BTreeSet<FirewallOpening>, keep: bool) -> Result<()> {
    let rules = rules_of(&chain::matches(openings));
    let unneeded = rules.is_empty() && !keep;
    let done = if unneeded { chains.are_clean() } else { chains.stand(&rules) };
    if done {
        return Ok(());
    }
    let mut script = String::from("*filter\n");
    // Declared, an existing chain is emptied.
    writeln!(script, ":{CHAIN} - [0:0]")?;
    rules.iter().try_for_each(|rule| writeln!(script, "{rule}"))?;
    chains.jumps().try_for_each(|_| writeln!(script, "-D FORWARD -j {CHAIN}"))?;
    if unneeded {
        writeln!(script, "-X {CHAIN}")?;
    } else {
        writeln!(script, "-A FORWARD -j {CHAIN}")?;
    }
    script.push_str("COMMIT\n");
    restore(family, &script)
}

/// Deletes the rules for uplinks from the chains of others.
pub(super) fn delete_former(family: Family, chains: &Chains) -> Result<()> {
    let uplinks = rules_of(&chain::matches(&BTreeSet::from([FirewallOpening::Uplinks])));
    let is_former = |line: &&String| {
        let places =
            ["DOCKER-USER", "FORWARD"].map(|place| line.replacen(&format!("-A {place} "), &format!("-A {CHAIN} "), 1));
        places.iter().any(|rule| uplinks.contains(rule))
    };
    let found = chains.docker_user.iter().chain(chains.forward.iter().map(|rule| &rule.text));
    let former: String = found.filter(is_former).map(|line| line.replacen("-A ", "-D ", 1) + "\n").collect();
    if former.is_empty() { Ok(()) } else { restore(family, &format!("*filter\n{former}COMMIT\n")) }
}

pub(super) fn set_policy(family: Family, policy: &str) -> Result<()> {
    let command = command(family);
    let output = Command::new(command).args(PATIENCE).args(["-P", "FORWARD", policy]).output();
    let output = output.with_context(|| format!("run {command}"))?;
    ensure!(output.status.success(), "{command} -P FORWARD {policy}: {}", words(&output));
    Ok(())
}

fn rules_of(matches: &[(Option<String>, Option<String>)]) -> Vec<String> {
    let link = |option: &str, link: &Option<String>| {
        link.as_ref().map_or_else(String::new, |link| format!("{option} {} ", link.replace('*', "+")))
    };
    matches.iter().map(|(from, to)| format!("-A {CHAIN} {}{}-j ACCEPT", link("-i", from), link("-o", to))).collect()
}

fn restore(family: Family, script: &str) -> Result<()> {
    let command = format!("{}-restore", command(family));
    let mut child = Command::new(&command)
        .arg("--noflush")
        .args(PATIENCE)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {command}"))?;
    // When it ends early, its own error is the cause.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().with_context(|| format!("wait for {command}"))?;
    ensure!(output.status.success(), "{command}: {}", words(&output));
    written.with_context(|| format!("write to {command}"))
}

fn command(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
