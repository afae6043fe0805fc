// SPDX-License-Identifier: Apache-2.0
//! What a tool lists of the table `filter`: FORWARD, and ciao's chain.

use std::collections::BTreeSet;

use crate::kernel::FirewallOpening;

/// ciao's chain.
pub(super) const CHAIN: &str = "CIAO-FORWARD";

/// A rule of FORWARD.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// As the tool writes it.
    pub(super) text: String,
    /// It jumps to ciao's chain.
    pub(super) is_jump: bool,
    /// Nothing passes it.
    pub(super) is_final: bool,
}

/// Both chains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chains {
    /// FORWARD's policy, in capitals; `None`: there is no such chain.
    pub(super) policy: Option<String>,
    /// FORWARD's rules.
    pub(super) forward: Vec<Rule>,
    /// The rules of ciao's chain, as the tool writes them; `None`: there is no such chain.
    pub(super) own: Option<Vec<String>>,
    /// The rules of Docker's chain for its users, as iptables writes them.
    pub(super) docker_user: Vec<String>,
}

impl Chains {
    /// Whether FORWARD jumps to ciao's chain.
    pub(super) fn is_led_to(&self) -> bool {
        self.forward.iter().any(|rule| rule.is_jump)
    }

    /// How often it does.
    pub(super) fn jumps(&self) -> impl Iterator<Item = &Rule> {
        self.forward.iter().filter(|rule| rule.is_jump)
    }

    /// Whether ciao's chain has these rules and FORWARD jumps to it once, in last place.
    pub(super) fn stand(&self, wanted: &[String]) -> bool {
        self.own.as_deref() == Some(wanted)
            && self.forward.last().is_some_and(|rule| rule.is_jump)
            && self.jumps().count() == 1
    }

    /// Whether nothing of ciao's is left.
    pub(super) fn are_clean(&self) -> bool {
        self.own.is_none() && !self.is_led_to()
    }

    /// The rule before ciao's chain that nothing passes.
    pub(super) fn final_rule(&self) -> Option<&str> {
        let mut before = self.forward.iter().take_while(|rule| !rule.is_jump);
        before.find(|rule| rule.is_final).map(|rule| rule.text.as_str())
    }
}

/// The rules of ciao's chain, each as pairs of an option's meaning and the link: `None` stands for "any".
pub(super) fn matches(openings: &BTreeSet<FirewallOpening>) -> Vec<(Option<String>, Option<String>)> {
    let mut rules = Vec::new();
    for opening in openings {
        match opening {
            FirewallOpening::Bridge(bridge) => rules.push((Some(bridge.to_string()), Some(bridge.to_string()))),
            FirewallOpening::Uplinks => {
                rules.extend([(Some(UPLINKS.to_owned()), None), (None, Some(UPLINKS.to_owned()))]);
            }
        }
    }
    rules
}

/// Stands for every uplink; each tool has a wildcard of its own.
pub(super) const UPLINKS: &str = "cu*";
