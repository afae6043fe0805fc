//! The host's own rules: when they are loaded, watched, put back, and taken away.
//!
//! Somebody's `iptables -F`, or a reload of a firewall, takes rules away under running containers. The kernel counts the
//! changes of its rules; so a look at that number, and at the bridges, tells every few seconds whether
//! there is something to do.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use anyhow::{Context, Result};
use ciao_common::types::LinkName;

use crate::fabric::Fabric;
use crate::kernel::element::{Change, Element};
use crate::kernel::{Namespace, Passage};
use crate::reconcile::Depth;
use crate::rules;

/// What is known of the host's rules.
#[derive(Default)]
pub(crate) struct HostRules {
    /// They were seen or written, and nobody told of a change since.
    stand: bool,
    /// The bridges that were last said to lead out of the host.
    ways_out: Option<Vec<LinkName>>,
    /// The kernel's count of changes when a watch last found them standing.
    generation: Option<u32>,
}

impl Fabric {
    /// As [`Self::change_rules`], for the host's rules.
    pub(crate) fn change_host_rules(&self, elements: &[Element], change: Change) -> Result<()> {
        let _lock = self.lock_rules(None);
        self.kernel.change_elements(&Namespace::Host, elements, change).or_else(|error| {
            log::info!("rules of the host differ from the records ({error:#}): written anew");
            self.write_host_rules()
        })
    }

    /// Loads the host's rules, and opens its firewall, if a tenant needs them and they are not there.
    pub(crate) fn ensure_host_rules(&self) -> Result<()> {
        let mut known = self.host_rules.lock().unwrap_or_else(PoisonError::into_inner);
        if known.stand {
            return Ok(());
        }
        let ways_out = self.kernel.bridges_leading_out()?;
        if !self.kernel.has_rules(&Namespace::Host)? {
            self.load_host_rules()?;
        } else if known.ways_out.as_ref() != Some(&ways_out) {
            self.open_ways_out(&ways_out)?;
        }
        self.kernel.open_firewall(&Passage::Uplinks)?;
        (known.stand, known.ways_out) = (true, Some(ways_out));
        Ok(())
    }

    fn open_ways_out(&self, ways_out: &[LinkName]) -> Result<()> {
        let _lock = self.lock_rules(None);
        let told = self.kernel.run_nft(&Namespace::Host, &rules::ways_out_script(ways_out));
        told.or_else(|error| {
            log::info!("rules of the host are not as expected ({error:#}): written anew");
            self.write_host_rules()
        })
    }

    fn load_host_rules(&self) -> Result<()> {
        let _lock = self.lock_rules(None);
        self.write_host_rules()
    }

    fn write_host_rules(&self) -> Result<()> {
        let (networks, ports, uplinks) = self.store.read(|tx| Ok((tx.networks()?, tx.ports()?, tx.uplinks()?)))?;
        let script = rules::host_script(&networks, &ports, &uplinks, &self.pools)
            + &rules::ways_out_script(&self.kernel.bridges_leading_out()?);
        self.kernel.run_nft(&Namespace::Host, &script).context("load the host's rules")
    }

    /// Puts the host's rules back after somebody's `iptables -F` or firewall reload, as long as a tenant needs them.
    pub(crate) fn restore_host_rules(&self, depth: Depth) -> Result<()> {
        let (networks, uplinks) = self.store.read(|tx| Ok((tx.networks()?, tx.uplinks()?)))?;
        let on_host = networks.into_iter().filter(|network| network.namespace.is_none());
        for bridge in on_host.map(|network| network.bridge).collect::<BTreeSet<_>>() {
            self.kernel.open_firewall(&Passage::Bridge(bridge))?;
        }
        if uplinks.is_empty() {
            return Ok(());
        }
        self.host_rules.lock().unwrap_or_else(PoisonError::into_inner).stand = false;
        if depth == Depth::Whole {
            self.load_host_rules()?;
        }
        self.ensure_host_rules()
    }

    /// As [`Self::restore_host_rules`] at a glance, if a rule of the host or a bridge has changed since the last time.
    pub(crate) fn watch_host_rules(&self) -> Result<()> {
        let known = || self.host_rules.lock().unwrap_or_else(PoisonError::into_inner);
        // Read first: a change while the rules are looked at is seen the next time.
        let generation = self.kernel.rules_generation()?;
        let stand = generation.is_some() && known().generation == generation;
        if stand
            && known()
                .ways_out
                .as_ref()
                .is_none_or(|links| self.kernel.bridges_leading_out().is_ok_and(|now| now == *links))
        {
            return Ok(());
        }
        self.restore_host_rules(Depth::Glance)?;
        known().generation = generation;
        Ok(())
    }

    /// Takes the host's rules away when no tenant needs them.
    pub(crate) fn tidy_host_rules(&self) -> Result<()> {
        let mut known = self.host_rules.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.store.read(|tx| tx.uplinks())?.is_empty() {
            return Ok(());
        }
        *known = HostRules::default();
        if self.kernel.has_rules(&Namespace::Host)? {
            self.kernel.close_firewall(&Passage::Uplinks)?;
            self.kernel.run_nft(&Namespace::Host, rules::NO_HOST_SCRIPT).context("take the host's rules away")?;
        }
        Ok(())
    }
}
