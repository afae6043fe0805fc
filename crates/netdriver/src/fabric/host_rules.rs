// SPDX-License-Identifier: Apache-2.0
//! The host's own rules: when they are loaded, watched, restored, and deleted.
//!
//! `iptables -F`, or a firewall's reload, removes rules under running containers. The kernel counts the changes of its
//! rules; so this count, and the list of bridges, show every few seconds whether there is something to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use ciao_common::store::{Egress, Store};
use ciao_common::types::{Family, LinkName};

use super::host_firewall::HostFirewall;
use super::host_settings::HostSettings;
use super::lost::Lost;
use crate::kernel::element::{Change, Element, Ruleset};
use crate::kernel::{Kernel, Namespace};
use crate::rules;
use crate::uplink_pool::UplinkPool;

/// The rules of the host's namespace.
pub(crate) struct HostRules {
    store: Arc<Store>,
    kernel: Arc<dyn Kernel>,
    settings: Arc<HostSettings>,
    firewall: Arc<HostFirewall>,
    /// While records are missing, what is in the kernel stays.
    lost: Arc<Lost>,
    pool: UplinkPool,
    /// How many source ports each tenant may have.
    nat_ports: u32,
    /// Held by whoever loads or deletes the rules.
    state: Mutex<State>,
    /// Held while rules are written. No other lock is taken inside, `state` above all.
    writing: Mutex<()>,
}

/// What is known of the rules.
#[derive(Default)]
struct State {
    /// They were seen or written, and no change was noticed since.
    loaded: bool,
    /// The bridges by which traffic may leave the host, as last written.
    egress_bridges: Option<Vec<LinkName>>,
    /// What the guard has: the filter and its elements.
    guard: Option<(String, Vec<Element>)>,
    /// Why it has not, as logged.
    guard_failure: Option<String>,
    /// The kernel's count of changes when a watch last found them loaded.
    generation: Option<u32>,
    /// A tenant leaves by IPv6.
    v6: bool,
}

impl HostRules {
    pub(super) fn new(
        store: Arc<Store>,
        kernel: Arc<dyn Kernel>,
        settings: Arc<HostSettings>,
        firewall: Arc<HostFirewall>,
        lost: Arc<Lost>,
        pool: UplinkPool,
        nat_ports: u32,
    ) -> Self {
        Self {
            store,
            kernel,
            settings,
            firewall,
            lost,
            pool,
            nat_ports,
            state: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether they are in the kernel.
    pub(crate) fn exist(&self) -> Result<bool> {
        self.kernel.has_rules(&Namespace::Host)
    }

    /// Changes elements. Where one is not as expected, all are written again from the records.
    pub(crate) fn change(&self, elements: &[Element], change: Change) -> Result<()> {
        let _lock = self.writing();
        self.kernel.change_elements(&Namespace::Host, elements, change).map(drop).or_else(|error| {
            if self.lost.is_any() {
                return Err(error);
            }
            log::info!("rules of the host differ from the database ({error:#}): reloaded");
            self.write()
        })
    }

    /// Makes the host forward (`v6`: IPv6 too), loads the rules, and opens the host's firewall, if that was not done yet, or
    /// somebody changed a rule since.
    pub(crate) fn ensure(&self, v6: bool) -> Result<()> {
        self.settings.ensure_forwarding(v6)?;
        // Read first: a change during the check is noticed by the next one.
        let generation = self.kernel.rules_generation(&Namespace::Host)?;
        let mut state = self.state();
        state.v6 |= v6;
        if state.loaded && generation.is_some() && state.generation == generation {
            return Ok(());
        }
        let egress_bridges = self.kernel.egress_bridges()?;
        if !self.exist()? {
            self.load()?;
        } else if state.egress_bridges.as_ref() != Some(&egress_bridges) {
            self.set_egress_bridges(&egress_bridges)?;
        }
        self.firewall.sync(None)?;
        (state.loaded, state.egress_bridges, state.generation) = (true, Some(egress_bridges), generation);
        self.guard(&mut state)
    }

    /// Keeps the guard the same as the rules' own filter. Where the kernel has none, the rules are all there is.
    fn guard(&self, state: &mut State) -> Result<()> {
        if self.lost.is_any() {
            return Ok(());
        }
        let ruleset = self.ruleset()?;
        let filter = rules::guard::filter(&ruleset.tables);
        let elements = rules::guard::elements(&filter, ruleset.elements);
        let wanted = Some((filter, elements));
        if state.guard == wanted && self.kernel.is_host_guarded() {
            return Ok(());
        }
        let guarded = wanted.as_ref().map_or(Ok(()), |(filter, elements)| self.kernel.guard_host(filter, elements));
        let failure = guarded.err().map(|error| format!("{error:#}"));
        if let Some(failure) = failure.as_ref().filter(|failure| state.guard_failure.as_ref() != Some(failure)) {
            log::warn!(
                "guard the host's rules: {failure}: after a flush of the rules, tenants are isolated again a second later"
            );
        }
        (state.guard, state.guard_failure) = (wanted, failure);
        Ok(())
    }

    fn set_egress_bridges(&self, bridges: &[LinkName]) -> Result<()> {
        let _lock = self.writing();
        self.kernel.run_nft(&Namespace::Host, &rules::egress_bridges_script(bridges)).or_else(|error| {
            if self.lost.is_any() {
                return Err(error);
            }
            log::info!("rules of the host differ from the database ({error:#}): reloaded");
            self.write()
        })
    }

    fn load(&self) -> Result<()> {
        let _lock = self.writing();
        self.write()
    }

    fn write(&self) -> Result<()> {
        self.kernel.load_rules(&Namespace::Host, &self.ruleset()?).context("load the host's rules").map(drop)
    }

    /// As recorded, and as the host's bridges are.
    fn ruleset(&self) -> Result<Ruleset> {
        let (networks, ports, uplinks) = self.store.read(|tx| Ok((tx.networks()?, tx.ports()?, tx.uplinks()?)))?;
        let forwarded = ports.into_iter().filter_map(|port| {
            let uplink = uplinks.iter().find(|uplink| uplink.namespace == port.namespace)?;
            let address = self.pool.inner_address(uplink.number, port.host_address.is_ipv6());
            Some((port, address))
        });
        let (forwarded, egress) = (forwarded.collect::<Vec<_>>(), self.kernel.egress_bridges()?);
        Ok(rules::host_ruleset(&networks, &uplinks, &forwarded, &egress, self.nat_ports))
    }

    /// How they differ from the records; `None`: not at all, or no tenant needs them. Unless `closely`, they are not
    /// compared where nobody changed a rule since [`Self::watch`] found them loaded.
    pub(super) fn difference(&self, closely: bool) -> Result<Option<String>> {
        if self.store.read(|tx| tx.uplinks())?.is_empty() || (self.lost.is_any() && self.exist()?) {
            return Ok(None);
        }
        // Before the lock: who has the state waits for it.
        let known = self.state().generation;
        let _lock = self.writing();
        let generation = self.kernel.rules_generation(&Namespace::Host)?;
        if !closely && generation.is_some() && generation == known {
            return Ok(None);
        }
        self.kernel.rules_difference(&Namespace::Host, &self.ruleset()?)
    }

    /// Writes them again. Where that fails, the tenants' uplinks are set down until it does not.
    pub(super) fn repair(&self) -> Result<()> {
        let Err(error) = self.load() else { return Ok(()) };
        let links: Vec<_> = self.store.read(|tx| tx.uplinks())?.into_iter().map(|uplink| uplink.host_link).collect();
        self.kernel.set_down(&Namespace::Host, &links).context("set uplinks down while the host has no rules")?;
        Err(error.context(format!("{} uplinks are down until the host's rules are restored", links.len())))
    }

    /// Restores what `iptables -F` or a firewall's reload removed, as long as a tenant needs it.
    pub(crate) fn restore(&self) -> Result<()> {
        let (networks, uplinks) = self.store.read(|tx| Ok((tx.networks()?, tx.uplinks()?)))?;
        if self.lost.is_any() && self.exist()? {
            return Ok(());
        }
        if uplinks.is_empty() {
            return self.firewall.sync(None);
        }
        self.settings.ensure_advertisements()?;
        self.state().loaded = false;
        let leaving = networks.iter().filter(|network| network.egress == Egress::Nat);
        let v6 = leaving.flat_map(|network| &network.subnets).any(|subnet| subnet.subnet.network().is_ipv6());
        self.ensure(v6)
    }

    /// [`Self::restore`], if a rule of the host or a bridge has changed since the last call, or the host does not forward.
    pub(crate) fn watch(&self) -> Result<()> {
        // Read first: a change during the check is noticed by the next one.
        let generation = self.kernel.rules_generation(&Namespace::Host)?;
        if generation.is_some() && self.state().generation == generation && self.is_unchanged()? {
            return Ok(());
        }
        self.restore()?;
        self.state().generation = generation;
        Ok(())
    }

    /// Whether traffic leaves the host as when the rules were loaded.
    fn is_unchanged(&self) -> Result<bool> {
        let (known, v6) = {
            let state = self.state();
            (state.egress_bridges.clone(), state.v6)
        };
        let Some(known) = known else { return Ok(true) };
        let forwards = |family| self.kernel.missing_forwarding(family).map(|missing| missing.is_empty());
        Ok(forwards(Family::V4)? && (!v6 || forwards(Family::V6)?) && self.kernel.egress_bridges()? == known)
    }

    /// Deletes the rules when no tenant needs them.
    pub(crate) fn tidy(&self) -> Result<()> {
        let mut state = self.state();
        if !self.store.read(|tx| tx.uplinks())?.is_empty() || self.lost.is_any() {
            return Ok(());
        }
        *state = State::default();
        self.kernel.unguard_host();
        self.firewall.sync(None)?;
        if self.exist()? {
            self.kernel.run_nft(&Namespace::Host, rules::DELETE_HOST_RULES).context("delete the host's rules")?;
        }
        Ok(())
    }
}
