// SPDX-License-Identifier: Apache-2.0
//! The host's own rules: when they are loaded, watched, restored, and deleted.
//!
//! `iptables -F`, or a firewall's reload, removes rules under running containers. The kernel counts the changes of its
//! rules; so this count, and how traffic leaves the host, show every few seconds whether there is something to do.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Error, Result};
use ciao_common::store::{Egress, Store};
use ciao_common::sync::lock;
use ciao_common::types::Family;

use super::generation::Generation;
use super::host_firewall::HostFirewall;
use super::host_guard::HostGuard;
use super::host_ruleset::HostRuleset;
use super::lost::Lost;
use crate::kernel::element::{Change, Element};
use crate::kernel::{Kernel, Namespace};
use crate::rules::{self, HostEgress};

/// The rules of the host's namespace.
pub(crate) struct HostRules {
    store: Arc<Store>,
    kernel: Arc<dyn Kernel>,
    recorded: HostRuleset,
    firewall: Arc<HostFirewall>,
    /// While records are missing, what is in the kernel stays.
    lost: Arc<Lost>,
    /// Held by whoever loads or deletes the rules.
    state: Mutex<State>,
    /// Held while rules are written. `state` is never taken inside.
    writing: Mutex<()>,
    /// The kernel's count of changes when they were last seen to exist, and when they were last written, or compared
    /// with the records; each with ciao-net's own changes since.
    seen: Generation,
    compared: Generation,
}

/// What is known of the rules.
#[derive(Default)]
struct State {
    /// They were seen or written, and no change was noticed since.
    loaded: bool,
    /// They differ from the records and could not be written: uplinks are down.
    broken: bool,
    /// How traffic leaves the host, as last written.
    egress: Option<HostEgress>,
    guard: HostGuard,
    /// A tenant leaves by IPv6.
    v6: bool,
}

impl HostRules {
    pub(super) fn new(recorded: HostRuleset, firewall: Arc<HostFirewall>, lost: Arc<Lost>) -> Self {
        Self {
            store: recorded.store.clone(),
            kernel: recorded.kernel.clone(),
            recorded,
            firewall,
            lost,
            state: Mutex::default(),
            writing: Mutex::default(),
            seen: Generation::default(),
            compared: Generation::default(),
        }
    }

    /// Whether they are in the kernel.
    pub(crate) fn exist(&self) -> Result<bool> {
        self.kernel.has_rules(&Namespace::Host)
    }

    /// Changes elements, none of which the guard has. Where one is not as expected, all are written again.
    pub(crate) fn change(&self, elements: &[Element], change: Change) -> Result<()> {
        let _lock = lock(&self.writing);
        let changed = self.kernel.change_elements(&Namespace::Host, elements, change);
        let changed = changed.map(|now| [&self.seen, &self.compared].into_iter().for_each(|known| known.advance(now)));
        changed.or_else(|error| self.write_after(error))
    }

    /// Makes the host forward (`v6`: IPv6 too), loads the rules, and opens the host's firewall, if that was not done
    /// yet, or a rule was changed since.
    pub(crate) fn ensure(&self, v6: bool) -> Result<()> {
        self.firewall.settings.ensure_forwarding(v6)?;
        // Read first: a change during the check is noticed by the next one.
        let generation = self.kernel.rules_generation(&Namespace::Host)?;
        let mut state = lock(&self.state);
        state.v6 |= v6;
        if state.loaded && self.seen.is(generation) {
            return Ok(());
        }
        let egress = self.recorded.egress()?;
        if state.broken || !self.exist()? {
            self.load()?;
            state.broken = false;
        } else if state.egress.as_ref() != Some(&egress) {
            let _lock = lock(&self.writing);
            let changed = self.kernel.run_nft(&Namespace::Host, &rules::egress_script(&egress));
            changed.or_else(|error| self.write_after(error))?;
        }
        // A network may be recorded before its uplink, for which the firewall is opened.
        let has_uplinks = !self.store.read(|tx| tx.uplinks())?.is_empty();
        self.firewall.sync(None)?;
        (state.loaded, state.egress) = (has_uplinks, Some(egress));
        self.seen.set(generation);
        self.guard(&mut state)
    }

    fn guard(&self, state: &mut State) -> Result<()> {
        if !self.lost.is_any() {
            state.guard.update(&*self.kernel, self.recorded.ruleset()?.elements);
        }
        Ok(())
    }

    /// Writes all rules, because a change of them failed: they were not as recorded.
    fn write_after(&self, error: Error) -> Result<()> {
        if self.lost.is_any() {
            return Err(error);
        }
        log::info!("rules of the host differ from the database ({error:#}): reloaded");
        self.write()
    }

    /// Writes all of them again, with what the records have now; later, while some are missing.
    pub(crate) fn reload(&self) -> Result<()> {
        if self.lost.is_any() && self.exist()? {
            return Ok(());
        }
        self.load()?;
        self.guard(&mut lock(&self.state))
    }

    fn load(&self) -> Result<()> {
        let _lock = lock(&self.writing);
        self.write()
    }

    /// What they have may not be as recorded, though nobody else changed them: the next look compares them.
    pub(super) fn forget_generation(&self) {
        self.compared.set(None);
    }

    fn write(&self) -> Result<()> {
        self.forget_generation();
        let generation =
            self.kernel.load_rules(&Namespace::Host, &self.recorded.ruleset()?).context("load the host's rules")?;
        self.compared.set(generation);
        Ok(())
    }

    /// How they differ from the records; `None`: not at all, or no tenant needs them. Unless `closely`, they are not
    /// compared where nobody else changed a rule since.
    pub(super) fn difference(&self, closely: bool) -> Result<Option<String>> {
        if self.store.read(|tx| tx.uplinks())?.is_empty() || (self.lost.is_any() && self.exist()?) {
            return Ok(None);
        }
        let _lock = lock(&self.writing);
        let generation = self.kernel.rules_generation(&Namespace::Host)?;
        if !closely && self.compared.is(generation) {
            return Ok(None);
        }
        let difference = self.kernel.rules_difference(&Namespace::Host, &self.recorded.ruleset()?)?;
        self.compared.set(generation.filter(|_| difference.is_none()));
        Ok(difference)
    }

    /// Writes them again. Where that fails, the tenants' uplinks are set down until it does not.
    pub(super) fn repair(&self) -> Result<()> {
        let loaded = self.load();
        let mut state = lock(&self.state);
        state.broken = loaded.is_err();
        let Err(error) = loaded else { return Ok(()) };
        state.loaded = false;
        drop(state);
        let links: Vec<_> = self.store.read(|tx| tx.uplinks())?.into_iter().map(|uplink| uplink.host_link).collect();
        self.kernel.set_down(&Namespace::Host, &links).context("set uplinks down while the host has no rules")?;
        Err(error.context(format!("{} uplinks are down until the host's rules are restored", links.len())))
    }

    /// Restores what `iptables -F` or a firewall's reload removed, as long as a tenant needs it, and else deletes what
    /// a repair wrote while the last one went.
    pub(crate) fn restore(&self) -> Result<()> {
        let (networks, uplinks) = self.store.read(|tx| Ok((tx.networks()?, tx.uplinks()?)))?;
        if self.lost.is_any() && self.exist()? {
            return Ok(());
        }
        if uplinks.is_empty() {
            return self.tidy();
        }
        self.firewall.settings.ensure_advertisements()?;
        lock(&self.state).loaded = false;
        let mut leaving = networks.iter().filter(|network| network.egress == Egress::Nat);
        self.ensure(leaving.any(|network| network.has_v6()))
    }

    /// [`Self::restore`], if a rule of the host, a link or a resolver has changed since the last call, or the host does
    /// not forward.
    pub(crate) fn watch(&self) -> Result<()> {
        // Read first: a change during the check is noticed by the next one.
        let generation = self.kernel.rules_generation(&Namespace::Host)?;
        if self.seen.is(generation) && self.is_unchanged()? {
            return Ok(());
        }
        self.restore()?;
        self.seen.set(generation);
        Ok(())
    }

    /// Whether traffic leaves the host as when the rules were loaded.
    fn is_unchanged(&self) -> Result<bool> {
        let state = lock(&self.state);
        let (known, v6) = (state.egress.clone(), state.v6);
        drop(state);
        let Some(known) = known else { return Ok(true) };
        let forwards = |family| self.kernel.missing_forwarding(family).map(|missing| missing.is_empty());
        Ok(forwards(Family::V4)? && (!v6 || forwards(Family::V6)?) && self.recorded.egress()? == known)
    }

    /// Whether something may have changed that no report of the kernel's names: the resolvers that the rules were
    /// written with, or rules of the older iptables.
    pub(crate) fn may_have_changed(&self) -> bool {
        let resolvers = self.recorded.resolvers();
        let Some(written) = lock(&self.state).egress.clone() else { return false };
        let is_counted = || self.kernel.rules_generation(&Namespace::Host).map(|generation| generation.is_some());
        written.resolvers != resolvers || !is_counted().unwrap_or(true)
    }

    /// Deletes the rules when no tenant needs them.
    pub(crate) fn tidy(&self) -> Result<()> {
        let mut state = lock(&self.state);
        if !self.store.read(|tx| tx.uplinks())?.is_empty() {
            return Ok(());
        }
        if self.lost.is_any() {
            return self.firewall.sync(None);
        }
        *state = State::default();
        self.seen.set(None);
        self.compared.set(None);
        self.kernel.unguard_host();
        self.firewall.sync(None)?;
        if self.exist()? {
            self.kernel.run_nft(&Namespace::Host, rules::DELETE_HOST_RULES).context("delete the host's rules")?;
        }
        Ok(())
    }
}
