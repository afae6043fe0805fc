// SPDX-License-Identifier: Apache-2.0
//! nftables: whole rulesets by its command, elements by netlink.

mod command;
mod compare;
mod elements;
mod guard;

use anyhow::Result;
use netlink_packet_netfilter::NetfilterMessage;
use nix::sched::{CloneFlags, unshare};

use super::netlink::Netlink;
use super::{Linux, conntrack, firewall, namespace};
use crate::kernel::element::{self, Change, Element, Ruleset};
use crate::kernel::{Flows, HostGuard, Namespace, Rules};
pub(super) use compare::Listings;
pub(super) use guard::Guard;

/// A listing in the calling thread's namespace, with nft's options.
pub(super) fn listing(options: &[&str], what: &[&str]) -> Result<String> {
    command::list(options, what)
}

/// How nft lists what a script makes, in a namespace that lives as long as that takes.
pub(super) fn listing_of(script: &str, what: &'static [&'static str]) -> Result<String> {
    if script.is_empty() {
        return Ok(String::new());
    }
    let script = script.to_owned();
    namespace::in_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        command::finish(command::start()?, &script)?;
        command::list(&["-s"], what)
    })
}

/// A socket in the calling thread's network namespace.
fn netfilter() -> Result<Netlink<NetfilterMessage>> {
    Netlink::open()
}

impl Rules for Linux {
    fn run_nft(&self, namespace: &Namespace, script: &str) -> Result<()> {
        command::finish(self.within(namespace.name(), command::start)?, script)
    }

    fn load_rules(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<u32>> {
        let mut socket = self.within(namespace.name(), netfilter)?;
        let before = elements::generation(&mut socket)?;
        // A name that nft's language cannot express is sent by netlink.
        let (plain, odd): (Vec<_>, Vec<_>) = ruleset.elements.iter().cloned().partition(Element::is_plain);
        self.run_nft(namespace, &(ruleset.tables.clone() + &element::script(&plain, Change::Add)))?;
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
        self.within(namespace.name(), || compare::difference(&expected, ruleset))
    }

    fn change_elements(&self, namespace: &Namespace, elements: &[Element], change: Change) -> Result<Option<u32>> {
        if elements.is_empty() {
            return Ok(None);
        }
        let mut socket = self.within(namespace.name(), netfilter)?;
        if elements::supports(elements) {
            elements::change(&mut socket, elements, change)?;
        } else {
            self.run_nft(namespace, &element::script(elements, change))?;
        }
        elements::generation(&mut socket).map(Some)
    }

    fn has_rules(&self, namespace: &Namespace) -> Result<bool> {
        let chains = self.within(namespace.name(), || command::list(&[], &["chains", "inet"]))?;
        Ok(chains.contains("table inet ciao {"))
    }

    fn rules_generation(&self, namespace: &Namespace) -> Result<Option<u32>> {
        if *namespace == Namespace::Host && firewall::is_legacy() {
            return Ok(None);
        }
        elements::generation(&mut self.within(namespace.name(), netfilter)?).map(Some)
    }

    fn list_rules(&self, namespace: &Namespace) -> Result<String> {
        self.within(namespace.name(), || command::list(&[], &["ruleset"]))
    }

    fn forget_flows(&self, namespace: &Namespace, flows: &Flows) -> Result<()> {
        conntrack::forget(&mut self.within(namespace.name(), netfilter)?, flows)
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
