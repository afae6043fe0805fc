// SPDX-License-Identifier: Apache-2.0
//! The chains by nft, on a host without iptables. They have iptables' own form, which adopts them when it is installed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;
use ciao_common::types::Family;

use super::chain::{self, CHAIN, Chains, Rule};
use crate::kernel::FirewallOpening;
use crate::kernel::linux::nft::command;

pub(super) fn list(family: Family) -> Result<Chains> {
    let mut chains = Chains::default();
    if let Some(forward) = listed(family, "FORWARD")? {
        for line in forward.lines().map(str::trim) {
            if line.starts_with("type filter hook forward") {
                let policy = line.split("policy ").nth(1).and_then(|rest| rest.split(';').next());
                chains.policy = Some(policy.unwrap_or("accept").trim().to_ascii_uppercase());
            } else if let Some((rule, _)) = line.split_once("# handle ")
                && !line.starts_with("chain ")
            {
                let plain = without_counter(rule);
                chains.forward.push(Rule {
                    text: line.to_owned(),
                    is_jump: plain == format!("jump {CHAIN}"),
                    is_final: plain == "drop" || plain.starts_with("reject"),
                });
            }
        }
    }
    chains.own = listed(family, CHAIN)?.map(|text| {
        let rules = text.lines().filter_map(|line| line.trim().split_once("# handle ").map(|(rule, _)| rule));
        rules.filter(|rule| !rule.starts_with("chain ")).map(without_counter).collect()
    });
    Ok(chains)
}

/// Makes ciao's chain hold the rules of `openings`, in last place; without any, nothing of it is left, unless it is
/// kept. Where there is no FORWARD chain, nothing in this table drops.
pub(super) fn open(family: Family, chains: &Chains, openings: &BTreeSet<FirewallOpening>, keep: bool) -> Result<()> {
    let table = table(family);
    let rules: Vec<_> =
        chain::matches(openings).iter().map(|(from, to)| rule(from.as_deref(), to.as_deref())).collect();
    let unneeded = (rules.is_empty() && !keep) || chains.policy.is_none();
    if if unneeded { chains.are_clean() } else { chains.stand(&rules) } {
        return Ok(());
    }
    let mut script = format!("add chain {table} {CHAIN}\nflush chain {table} {CHAIN}\n");
    for jump in chains.jumps() {
        let handle = jump.text.rsplit("# handle ").next().unwrap_or_default();
        writeln!(script, "delete rule {table} FORWARD handle {handle}")?;
    }
    if unneeded {
        writeln!(script, "delete chain {table} {CHAIN}")?;
    } else {
        rules.iter().try_for_each(|rule| writeln!(script, "add rule {table} {CHAIN} {rule}"))?;
        writeln!(script, "add rule {table} FORWARD counter jump {CHAIN}")?;
    }
    command::run(&script)
}

/// Sets FORWARD's policy, of a chain that is made if it is not there.
pub(super) fn set_policy(family: Family, policy: &str) -> Result<()> {
    let (table, policy) = (table(family), policy.to_ascii_lowercase());
    command::run(&format!(
        "add table {table}\nadd chain {table} FORWARD {{ type filter hook forward priority filter; policy {policy}; }}\n"
    ))
}

fn rule(from: Option<&str>, to: Option<&str>) -> String {
    let link = |key: &str, link: Option<&str>| link.map_or_else(String::new, |link| format!("{key} \"{link}\" "));
    format!("{}{}accept", link("iifname", from), link("oifname", to))
}

/// iptables counts in every rule, and shows none without.
fn without_counter(rule: &str) -> String {
    let mut words = rule.split_whitespace().peekable();
    let mut left = Vec::new();
    while let Some(word) = words.next() {
        if word == "counter" {
            // packets N bytes N
            while words
                .next_if(|word| matches!(*word, "packets" | "bytes") || word.bytes().all(|b| b.is_ascii_digit()))
                .is_some()
            {}
        } else {
            left.push(word);
        }
    }
    left.join(" ")
}

fn table(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip filter",
        Family::V6 => "ip6 filter",
    }
}

/// What nft shows of a chain, with handles; `None` if it is not there.
fn listed(family: Family, chain: &str) -> Result<Option<String>> {
    let what: Vec<_> = ["chain"].into_iter().chain(table(family).split(' ')).chain([chain]).collect();
    Ok(Some(command::list(&["-a"], &what)?).filter(|text| !text.is_empty()))
}
