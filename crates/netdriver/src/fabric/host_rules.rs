// SPDX-License-Identifier: Apache-2.0
//! The host's own rules: when they are loaded, watched, restored, and deleted.
//!
//! `iptables -F`, or a firewall's reload, removes rules under running containers. The kernel counts the changes of its
//! rules; so this count, and how traffic leaves the host, show every few seconds whether there is something to do.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Error, Result};
use ciao_common::store::{Egress, Store};
use ciao_common::sync::lock;
use ciao_common::types::Family;

use super::host_firewall::HostFirewall;
use super::host_guard::HostGuard;
use super::host_settings::HostSettings;
use super::lost::Lost;
use crate::kernel::element::{Change, Element, Ruleset};
use crate::kernel::{Kernel, Namespace};
use crate::rules::{self, EgressPolicy, HostEgress};
use crate::uplink_pool::UplinkPool;

/// The rules of the host's namespace.
pub(crate) struct HostRules {
    pub(super) store: Arc<Store>,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) settings: Arc<HostSettings>,
    pub(super) firewall: Arc<HostFirewall>,
    /// While records are missing, what is in the kernel stays.
    pub(super) lost: Arc<Lost>,
    pub(super) pool: UplinkPool,
    /// As an administrator has set it.
    pub(super) policy: EgressPolicy,
    /// How many source ports each tenant may have.
    pub(super) nat_ports: u32,
    /// Held by whoever loads or deletes the rules.
    pub(super) state: Mutex<State>,
    /// Held while rules are written. `state` is never taken inside.
    pub(super) writing: Mutex<()>,
    /// The kernel's count of changes when they were last seen to exist, and when they were last written, or compared
    /// with the records; each with ciao-net's own changes since.
    pub(super) seen: Mutex<Option<u32>>,
    pub(super) compared: Mutex<Option<u32>>,
}

/// What is known of the rules.
#[derive(Default)]
pub(super) struct State {
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
    /// Whether they are in the kernel.
    pub(crate) fn exist(&self) -> Result<bool> {
        self.kernel.has_rules(&Namespace::Host)
    }

    /// Changes elements, none of which the guard has. Where one is not as expected, all are written again.
    pub(crate) fn change(&self, elements: &[Element], change: Change) -> Result<()> {
        let _lock = lock(&self.writing);
        let changed = self.kernel.change_elements(&Namespace::Host, elements, change).map(|now| {
            for known in [&self.seen, &self.compared] {
                let mut known = lock(known);
                *known = if known.map(|known| known.wrapping_add(1)) == now { now } else { *known };
            }
        });
        changed.or_else(|error| self.write_after(error))
    }

    /// Makes the host forward (`v6`: IPv6 too), loads the rules, and opens the host's firewall, if that was not done
    /// yet, or a rule was changed since.
    pub(crate) fn ensure(&self, v6: bool) -> Result<()> {
        self.settings.ensure_forwarding(v6)?;
        // Read first: a change during the check is noticed by the next one.
        let generation = self.kernel.rules_generation(&Namespace::Host)?;
        let mut state = lock(&self.state);
        state.v6 |= v6;
        if state.loaded && generation.is_some() && *lock(&self.seen) == generation {
            return Ok(());
        }
        let egress = self.egress()?;
        if state.broken || !self.exist()? {
            self.load()?;
            state.broken = false;
        } else if state.egress.as_ref() != Some(&egress) {
            self.set_egress(&egress)?;
        }
        // A network may be recorded before its uplink, for which the firewall is opened.
        let has_uplinks = !self.store.read(|tx| tx.uplinks())?.is_empty();
        self.firewall.sync(None)?;
        (state.loaded, state.egress) = (has_uplinks, Some(egress));
        *lock(&self.seen) = generation;
        self.guard(&mut state)
    }

    fn guard(&self, state: &mut State) -> Result<()> {
        if !self.lost.is_any() {
            state.guard.update(&*self.kernel, self.ruleset()?);
        }
        Ok(())
    }

    fn set_egress(&self, egress: &HostEgress) -> Result<()> {
        let _lock = lock(&self.writing);
        let changed = self.kernel.run_nft(&Namespace::Host, &rules::egress_script(egress));
        changed.or_else(|error| self.write_after(error))
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
        *lock(&self.compared) = None;
    }

    fn write(&self) -> Result<()> {
        self.forget_generation();
        let generation = self.kernel.load_rules(&Namespace::Host, &self.ruleset()?).context("load the host's rules")?;
        *lock(&self.compared) = generation;
        Ok(())
    }

    /// As recorded, and as the host is.
    fn ruleset(&self) -> Result<Ruleset> {
        let (networks, ports, uplinks) = self.store.read(|tx| Ok((tx.networks()?, tx.ports()?, tx.uplinks()?)))?;
        let forwarded = ports.into_iter().filter_map(|port| {
            let uplink = uplinks.iter().find(|uplink| uplink.namespace == port.namespace)?;
            let address = self.pool.inner_address(uplink.number, port.host_address.is_ipv6());
            Some((port, address))
        });
        let (forwarded, egress) = (forwarded.collect::<Vec<_>>(), self.egress()?);
        Ok(rules::host_ruleset(&networks, &uplinks, &forwarded, &egress, &self.policy.deny, self.nat_ports))
    }

    /// How they differ from the records; `None`: not at all, or no tenant needs them. Unless `closely`, they are not
    /// compared where nobody else changed a rule since.
    pub(super) fn difference(&self, closely: bool) -> Result<Option<String>> {
        if self.store.read(|tx| tx.uplinks())?.is_empty() || (self.lost.is_any() && self.exist()?) {
            return Ok(None);
        }
        let _lock = lock(&self.writing);
        let generation = self.kernel.rules_generation(&Namespace::Host)?;
        if !closely && generation.is_some() && generation == *lock(&self.compared) {
            return Ok(None);
        }
        let difference = self.kernel.rules_difference(&Namespace::Host, &self.ruleset()?)?;
        *lock(&self.compared) = generation.filter(|_| difference.is_none());
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
        self.settings.ensure_advertisements()?;
        lock(&self.state).loaded = false;
        let mut leaving = networks.iter().filter(|network| network.egress == Egress::Nat);
        self.ensure(leaving.any(|network| network.has_v6()))
    }

    /// [`Self::restore`], if a rule of the host, a link or a resolver has changed since the last call, or the host does
    /// not forward.
    pub(crate) fn watch(&self) -> Result<()> {
        // Read first: a change during the check is noticed by the next one.
        let generation = self.kernel.rules_generation(&Namespace::Host)?;
        if generation.is_some() && *lock(&self.seen) == generation && self.is_unchanged()? {
            return Ok(());
        }
        self.restore()?;
        *lock(&self.seen) = generation;
        Ok(())
    }

    /// Whether traffic leaves the host as when the rules were loaded.
    fn is_unchanged(&self) -> Result<bool> {
        let state = lock(&self.state);
        let (known, v6) = (state.egress.clone(), state.v6);
        drop(state);
        let Some(known) = known else { return Ok(true) };
        let forwards = |family| self.kernel.missing_forwarding(family).map(|missing| missing.is_empty());
        Ok(forwards(Family::V4)? && (!v6 || forwards(Family::V6)?) && self.egress()? == known)
    }

    fn egress(&self) -> Result<HostEgress> {
        Ok(HostEgress { links: self.kernel.egress_links()?, resolvers: self.resolvers() })
    }

    fn resolvers(&self) -> BTreeSet<IpAddr> {
        let mut found = self.kernel.resolvers();
        found.extend(&self.policy.resolvers);
        found
    }

    /// Whether something may have changed that no report of the kernel's names: the resolvers that the rules were
    /// written with, or rules of the older iptables.
    pub(crate) fn may_have_changed(&self) -> bool {
        let resolvers = self.resolvers();
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
        (*lock(&self.seen), *lock(&self.compared)) = (None, None);
        self.kernel.unguard_host();
        self.firewall.sync(None)?;
        if self.exist()? {
            self.kernel.run_nft(&Namespace::Host, rules::DELETE_HOST_RULES).context("delete the host's rules")?;
        }
        Ok(())
    }
}
