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
mod listed;
mod nft;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use ciao_common::types::Family;

use super::Linux;
use crate::kernel::{Firewall, FirewallOpening, Namespace, Rules};
use chain::Chains;
pub(super) use listed::Listed;
use listed::Tool;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Firewall for Linux {
    /// Where ciao's chain was removed, usually by a reload of a firewall, families of `drop` get their policy DROP
    /// again; they keep the chain, to show that.
    fn open_firewall(&self, openings: &BTreeSet<FirewallOpening>, drop: &[Family]) -> Result<Option<String>> {
        openings.iter().try_for_each(check_name)?;
        let mut final_rule = None;
        for family in FAMILIES {
            let (tool, mut chains) = self.chains(family)?;
            let keep = drop.contains(&family);
            if keep && !chains.is_led_to() && chains.policy.as_deref() != Some(DROP) {
                log::warn!("the host's firewall was reloaded: policy of FORWARD set to DROP again ({family})");
                self.set_forward_policy(family, DROP)?;
                chains.policy = Some(DROP.to_owned());
            }
            match tool {
                Tool::Iptables => iptables::open(family, &chains, openings, keep)?,
                Tool::Nft => nft::open(family, &chains, openings, keep)?,
            }
            final_rule = final_rule.or_else(|| chains.final_rule().map(str::to_owned));
        }
        match openings.contains(&FirewallOpening::Uplinks) {
            _ if !self.has_inet_table(firewalld::TABLE)? => {}
            true => firewalld::open()?,
            false => firewalld::close()?,
        }
        Ok(final_rule)
    }

    fn delete_former_rules(&self) -> Result<()> {
        FAMILIES.into_iter().try_for_each(|family| match self.chains(family)? {
            (Tool::Iptables, chains) => iptables::delete_former(family, &chains),
            (Tool::Nft, _) => Ok(()),
        })
    }

    fn is_firewall_used(&self, family: Family) -> Result<bool> {
        Ok(self.chains(family)?.1.forward.iter().any(|rule| !rule.is_jump))
    }
}

/// Some characters of a bridge's name are wildcards in a rule.
fn check_name(opening: &FirewallOpening) -> Result<()> {
    let FirewallOpening::Bridge(bridge) = opening else { return Ok(()) };
    let plain = bridge.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-@:".contains(&byte));
    ensure!(plain, "open the host's firewall for bridge {bridge}: rename it, to letters, digits and _.-@:");
    Ok(())
}

impl Linux {
    /// FORWARD's policy of a family; ACCEPT where there is no such chain.
    pub(super) fn forward_policy(&self, family: Family) -> Result<String> {
        Ok(self.chains(family)?.1.policy.unwrap_or_else(|| ACCEPT.to_owned()))
    }

    /// Sets it, with a chain of iptables' own form where there is none.
    pub(super) fn set_forward_policy(&self, family: Family, policy: &str) -> Result<()> {
        let before = self.rules_generation(&Namespace::Host)?;
        if !iptables::set_policy(family, policy)? {
            nft::set_policy(family, policy)?;
        }
        let after = self.rules_generation(&Namespace::Host)?;
        if let (Some(before), Some(after)) = (before, after)
            && after == before.wrapping_add(1)
        {
            self.listed.set_policy(family, (before, after), policy);
        }
        Ok(())
    }

    /// The chains of a family, and the tool that has listed them: again only after a change of the host's rules.
    fn chains(&self, family: Family) -> Result<(Tool, Chains)> {
        // Read first: a change during the listing is noticed by the next one.
        let generation = self.rules_generation(&Namespace::Host)?;
        if let Some(known) = self.listed.at(family, generation) {
            return Ok(known);
        }
        let (tool, chains) = list(family)?;
        self.listed.note(family, generation, (tool, chains.clone()));
        Ok((tool, chains))
    }
}

/// Whether tables of the older iptables are in use, beside nftables.
pub(super) fn is_legacy() -> bool {
    let used = |file| std::fs::read_to_string(file).is_ok_and(|tables| !tables.trim().is_empty());
    used("/proc/net/ip_tables_names") || used("/proc/net/ip6_tables_names")
}

const DROP: &str = "DROP";
const ACCEPT: &str = "ACCEPT";

/// The chains of a family, and the tool that has listed them.
fn list(family: Family) -> Result<(Tool, Chains)> {
    match iptables::list(family)? {
        Some(chains) => Ok((Tool::Iptables, chains)),
        None => Ok((Tool::Nft, nft::list(family)?)),
    }
}
