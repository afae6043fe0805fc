// SPDX-License-Identifier: Apache-2.0
//! What ciao needs of the host's own firewall: a chain of its own, `CIAO-FORWARD`, that the host's FORWARD
//! chain jumps to last.
//!
//! dockerd sets FORWARD's policy to DROP, and `bridge-nf-call-iptables` sends bridged frames through it: two containers
//! on an existing bridge of the host would not reach each other, and tenants' uplinks would lead nowhere. Only the
//! table of whoever drops can accept, so these few rules go into it: by `iptables`, or by nft where there is none. They
//! come after DOCKER-USER, Docker's own rules and every rule of the administrator's, which have precedence: a final
//! REJECT in FORWARD holds for tenants too.

mod chain;
mod firewalld;
mod iptables;
mod nft;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use ciao_common::types::Family;

use super::Linux;
use crate::kernel::{Firewall, FirewallOpening};
use chain::Chains;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Firewall for Linux {
    /// Where ciao's chain was removed, usually by a reload of a firewall, families of `drop` get their policy DROP
    /// again; they keep the chain, to show that.
    fn open_firewall(&self, openings: &BTreeSet<FirewallOpening>, drop: &[Family]) -> Result<Option<String>> {
        openings.iter().try_for_each(check_name)?;
        let mut final_rule = None;
        for family in FAMILIES {
            let (tool, mut chains) = list(family)?;
            let keep = drop.contains(&family);
            if keep && !chains.is_led_to() && chains.policy.as_deref() != Some(DROP) {
                log::warn!("the host's firewall was reloaded: policy of FORWARD set to DROP again ({family})");
                tool.set_policy(family, DROP)?;
                chains.policy = Some(DROP.to_owned());
            }
            match tool {
                Tool::Iptables => iptables::open(family, &chains, openings, keep)?,
                Tool::Nft => nft::open(family, &chains, openings, keep)?,
            }
            final_rule = final_rule.or_else(|| chains.final_rule().map(str::to_owned));
        }
        if openings.contains(&FirewallOpening::Uplinks) {
            firewalld::open()?;
        } else {
            firewalld::close()?;
        }
        Ok(final_rule)
    }

    fn delete_former_rules(&self) -> Result<()> {
        FAMILIES.into_iter().try_for_each(|family| match list(family)? {
            (Tool::Iptables, chains) => iptables::delete_former(family, &chains),
            (Tool::Nft, _) => Ok(()),
        })
    }

    fn is_firewall_used(&self, family: Family) -> Result<bool> {
        Ok(list(family)?.1.forward.iter().any(|rule| !rule.is_jump))
    }
}

/// Some characters of a bridge's name are wildcards in a rule.
fn check_name(opening: &FirewallOpening) -> Result<()> {
    let FirewallOpening::Bridge(bridge) = opening else { return Ok(()) };
    let plain = bridge.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-@:".contains(&byte));
    ensure!(plain, "open the host's firewall for bridge {bridge}: rename it, to letters, digits and _.-@:");
    Ok(())
}

/// FORWARD's policy of a family; ACCEPT where there is no such chain.
pub(super) fn policy(family: Family) -> Result<String> {
    Ok(list(family)?.1.policy.unwrap_or_else(|| ACCEPT.to_owned()))
}

/// Sets it, with a chain of iptables' own form where there is none.
pub(super) fn set_policy(family: Family, policy: &str) -> Result<()> {
    list(family)?.0.set_policy(family, policy)
}

/// Whether tables of the older iptables are in use, beside nftables.
pub(super) fn is_legacy() -> bool {
    let used = |file| std::fs::read_to_string(file).is_ok_and(|tables| !tables.trim().is_empty());
    used("/proc/net/ip_tables_names") || used("/proc/net/ip6_tables_names")
}

const DROP: &str = "DROP";
const ACCEPT: &str = "ACCEPT";

/// What changes the table `filter`.
#[derive(Clone, Copy)]
enum Tool {
    Iptables,
    Nft,
}

/// The chains of a family, and the tool that has listed them.
fn list(family: Family) -> Result<(Tool, Chains)> {
    match iptables::list(family)? {
        Some(chains) => Ok((Tool::Iptables, chains)),
        None => Ok((Tool::Nft, nft::list(family)?)),
    }
}

impl Tool {
    fn set_policy(self, family: Family, policy: &str) -> Result<()> {
        match self {
            Self::Iptables => iptables::set_policy(family, policy),
            Self::Nft => nft::set_policy(family, policy),
        }
    }
}
