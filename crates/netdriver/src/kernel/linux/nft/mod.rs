// SPDX-License-Identifier: Apache-2.0
//! nftables: whole rulesets by its command, elements by netlink.

pub(super) mod command;
mod compare;
mod drops;
mod dump;
mod elements;
mod forwarded;
mod guard;

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Linux, conntrack, firewall};
use crate::kernel::element::{self, Change, Element, Ruleset, Table};
use crate::kernel::{Flows, ForwardedPort, HostGuard, Namespace, Rules};
pub(super) use compare::Listings;
pub(super) use guard::Guard;

/// A listing in the calling thread's namespace, with nft's options.
pub(super) fn listing(options: &[&str], what: &[&str]) -> Result<String> {
    command::list(options, what)
}

impl Rules for Linux {
    fn run_nft(&self, namespace: &Namespace, script: &str) -> Result<()> {
        command::finish(self.within(namespace.name(), command::start)?, script)
    }

    fn load_rules(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<u32>> {
        let mut socket = self.netfilter(namespace)?;
        let before = elements::generation(&mut socket)?;
        let mut script = String::new();
        for table in compare::tables_of(&ruleset.tables) {
            // Where none is there, the kernel need not wait until packets have left it: 4 ms and not 16.
            if elements::has_table(&mut socket, table)? {
                script += &compare::delete(table);
            }
        }
        // A name that nft's language cannot express is sent by netlink.
        let (plain, odd): (Vec<_>, Vec<_>) = ruleset.elements.iter().cloned().partition(Element::is_plain);
        self.run_nft(namespace, &(script + &ruleset.tables + &element::grouped(&plain)))?;
        let mut changes = 1;
        if !odd.is_empty() {
            elements::change(&mut socket, &odd, Change::Add)?;
            changes += 1;
        }
        let after = elements::generation(&mut socket)?;
        Ok((after == before.wrapping_add(changes)).then_some(after))
    }

    fn rules_difference(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<String>> {
        let expected = self.listings.expected(&ruleset.tables)?;
        let mut socket = self.netfilter(namespace)?;
        self.within(namespace.name(), || compare::difference(&mut socket, &expected, ruleset))
    }

    fn change_elements(&self, namespace: &Namespace, elements: &[Element], change: Change) -> Result<Option<u32>> {
        if elements.is_empty() {
            return Ok(None);
        }
        let mut socket = self.netfilter(namespace)?;
        if elements::supports(elements) {
            elements::change(&mut socket, elements, change)?;
        } else {
            self.run_nft(namespace, &element::script(elements, change))?;
        }
        elements::generation(&mut socket).map(Some)
    }

    fn has_rules(&self, namespace: &Namespace) -> Result<bool> {
        elements::has_table(&mut *self.netfilter(namespace)?, Table::Inet)
    }

    fn rules_generation(&self, namespace: &Namespace) -> Result<Option<u32>> {
        if *namespace == Namespace::Host && firewall::is_legacy() {
            return Ok(None);
        }
        elements::generation(&mut *self.netfilter(namespace)?).map(Some)
    }

    fn forwarded_ports(&self, namespace: &Namespace) -> Result<Vec<ForwardedPort>> {
        if !self.has_rules(namespace)? {
            return Ok(Vec::new());
        }
        forwarded::list(&mut *self.netfilter(namespace)?, namespace)
    }

    fn drops(&self, namespace: &Namespace) -> Result<BTreeMap<String, u64>> {
        drops::list(&mut *self.netfilter(namespace)?)
    }

    fn list_rules(&self, namespace: &Namespace) -> Result<String> {
        self.within(namespace.name(), || command::list(&[], &["ruleset"]))
    }

    fn forget_flows(&self, namespace: &Namespace, flows: &Flows) -> Result<()> {
        conntrack::forget(&mut *self.netfilter(namespace)?, flows)
    }
}

impl HostGuard for Linux {
    fn guard_host(&self, filter: &str, elements: &[Element]) -> Result<()> {
        self.guard.load(filter, elements)
    }

    fn is_host_guarded(&self) -> bool {
        self.guard.stands()
    }

    fn unguard_host(&self) {
        self.guard.remove();
    }
}
