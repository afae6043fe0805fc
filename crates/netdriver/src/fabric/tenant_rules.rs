// SPDX-License-Identifier: Apache-2.0
//! Tenants' rules: loaded with a namespace, changed with its networks, VNICs and ports, compared with the records, and
//! restored after changes by others.
//!
//! The kernel counts the changes of a namespace's rules. As long as only ciao-net's own were counted, the rules are as
//! recorded and need no look.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use ciao_common::store::{Store, Tx, Vnic};
use ciao_common::sync::lock;
use ciao_common::types::{LinkName, Subnet};

use super::generation::Generations;
use super::locks::Locks;
use super::lost::Lost;
use super::veth::veth;
use crate::kernel::element::{Change, Element, Ruleset};
use crate::kernel::state::Seen;
use crate::kernel::{Kernel, LinkLocation, Namespace};
use crate::rules::{Tenant, shared_sources, source};

/// The rules of all namespaces of ours.
pub(crate) struct TenantRules {
    store: Arc<Store>,
    kernel: Arc<dyn Kernel>,
    /// Held while a namespace's rules are written, so that a ruleset read from the records is never older than an
    /// element that another thread just wrote. No other lock is taken inside.
    locks: Locks,
    generations: Generations,
    /// What was last written for containers with several VNICs, by namespace.
    shared: Mutex<BTreeMap<String, Shared>>,
    lost: Arc<Lost>,
    /// How many flows to other hosts each may have.
    flows: u32,
    /// What no network reaches unless its `egress_allow` has it.
    deny: Vec<Subnet>,
}

/// VNICs' host links, and addresses of other VNICs of the same container.
type Shared = BTreeSet<(LinkName, IpAddr)>;

impl TenantRules {
    pub(super) fn new(
        store: Arc<Store>,
        kernel: Arc<dyn Kernel>,
        lost: Arc<Lost>,
        flows: u32,
        deny: Vec<Subnet>,
    ) -> Self {
        Self {
            store,
            kernel,
            lost,
            locks: Locks::default(),
            generations: Generations::default(),
            shared: Mutex::default(),
            flows,
            deny,
        }
    }

    /// Writes a namespace's whole ruleset from the records; later, while some of them are missing.
    pub(crate) fn load(&self, namespace: &str) -> Result<()> {
        let _lock = self.locks.lock(namespace);
        if self.have_lost(namespace)? { Ok(()) } else { self.write(namespace) }
    }

    /// Whether a namespace's rules have what the records are missing.
    fn have_lost(&self, namespace: &str) -> Result<bool> {
        Ok(self.lost.has(namespace)? && self.kernel.has_rules(&named(namespace))?)
    }

    fn write(&self, namespace: &str) -> Result<()> {
        self.forget(namespace);
        let ruleset = self.ruleset(namespace)?;
        let generation = self.kernel.load_rules(&named(namespace), &ruleset).context("load a tenant's rules")?;
        self.generations.set(namespace, generation);
        Ok(())
    }

    /// The VNICs whose links may exist: those in state `deleting` too, until their links are deleted.
    fn vnics(&self, tx: &Tx<'_>, namespace: &str) -> Result<Vec<Vnic>> {
        let mut vnics = tx.vnics_in_namespace(namespace)?;
        for vnic in tx.vnics_deleting()?.into_iter().filter(|vnic| vnic.namespace.as_deref() == Some(namespace)) {
            if self.kernel.locate(&veth(&vnic))? != LinkLocation::Absent {
                vnics.push(vnic);
            }
        }
        Ok(vnics)
    }

    /// As recorded.
    fn ruleset(&self, namespace: &str) -> Result<Ruleset> {
        let (networks, vnics, live, ports) = self.store.read(|tx| {
            let ports = tx.ports_in_namespace(namespace)?;
            let live = tx.vnics_in_namespace(namespace)?;
            Ok((tx.networks_in_namespace(namespace)?, self.vnics(tx, namespace)?, live, ports))
        })?;
        // What was not written yet is no change of somebody else's.
        let written = lock(&self.shared).get(namespace).cloned();
        let shared = match written {
            Some(written) => written,
            None if live.len() < 2 => Shared::new(),
            None => shared_sources(&live, &self.kernel.look(&named(namespace))?.unwrap_or_default().links),
        };
        let tenant = Tenant {
            networks: &networks,
            vnics: &vnics,
            ports: &ports,
            shared: &shared,
            flows: self.flows,
            deny: &self.deny,
        };
        let ruleset = tenant.ruleset();
        self.remember_shared(namespace, shared);
        Ok(ruleset)
    }

    fn shared_in(&self, namespace: &str) -> Shared {
        lock(&self.shared).get(namespace).cloned().unwrap_or_default()
    }

    fn remember_shared(&self, namespace: &str, now: Shared) {
        lock(&self.shared).insert(namespace.to_owned(), now);
    }

    /// Whether a container got or lost one of several VNICs since their rules were written.
    pub(super) fn is_sharing_old(&self, namespace: &str, vnics: &[Vnic], seen: &Seen) -> bool {
        shared_sources(vnics, &seen.links) != self.shared_in(namespace)
    }

    /// Lets VNICs that are in one container now send with each other's addresses, and others no longer.
    pub(crate) fn share(&self, namespace: &str) -> Result<()> {
        let _lock = self.locks.lock(namespace);
        let vnics = self.store.read(|tx| tx.vnics_in_namespace(namespace))?;
        let Some(seen) = self.kernel.look(&named(namespace))? else { return Ok(()) };
        let (before, now) = (self.shared_in(namespace), shared_sources(&vnics, &seen.links));
        let elements = |from: &Shared, without: &Shared| {
            from.difference(without).map(|(link, address)| source(link, *address)).collect::<Vec<_>>()
        };
        let (left, added) = (elements(&before, &now), elements(&now, &before));
        self.remember_shared(namespace, now);
        self.change_locked(namespace, &left, Change::Delete)?;
        self.change_locked(namespace, &added, Change::Add)
    }

    /// [`Self::share`], after VNICs were deleted.
    pub(super) fn share_less(&self, namespace: &str) -> Result<()> {
        if self.shared_in(namespace).is_empty() { Ok(()) } else { self.share(namespace) }
    }

    /// Changes elements of a namespace's rules. Where one is not as expected, after a crash or a manual change, all are
    /// written again from the records.
    pub(crate) fn change(&self, namespace: &str, elements: &[Element], change: Change) -> Result<()> {
        let _lock = self.locks.lock(namespace);
        self.change_locked(namespace, elements, change)
    }

    fn change_locked(&self, namespace: &str, elements: &[Element], change: Change) -> Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        match self.kernel.change_elements(&named(namespace), elements, change) {
            Ok(generation) => {
                self.generations.advance(namespace, generation);
                Ok(())
            }
            // What the records are missing would be gone from the rules too.
            Err(error) if self.lost.has(namespace)? || !self.kernel.has_namespace(namespace)? => Err(error),
            Err(error) => {
                log::info!("rules of {namespace} differ from the database ({error:#}): reloaded");
                self.write(namespace)
            }
        }
    }

    /// How a namespace's rules differ from the records; `None`: not at all. Unless `closely`, rules that only ciao-net
    /// changed since they were last compared are not compared again.
    pub(crate) fn difference(&self, namespace: &str, closely: bool) -> Result<Option<String>> {
        let _lock = self.locks.lock(namespace);
        // Read first: a change during the comparison is noticed by the next one.
        let generation = self.kernel.rules_generation(&named(namespace))?;
        if !closely && generation.is_some() && generation == self.generations.get(namespace) {
            return Ok(None);
        }
        if self.have_lost(namespace)? {
            return Ok(None);
        }
        let ruleset = self.ruleset(namespace)?;
        let difference = self.kernel.rules_difference(&named(namespace), &ruleset)?;
        self.generations.set(namespace, generation.filter(|_| difference.is_none()));
        Ok(difference)
    }

    /// Restores a namespace's rules. Where that fails, its VNICs are set down, so that nothing is up without rules,
    /// until a later comparison finds the rules restored.
    pub(crate) fn restore(&self, namespace: &str) -> Result<()> {
        let Err(error) = self.load(namespace) else { return Ok(()) };
        let vnics = self.store.read(|tx| self.vnics(tx, namespace))?;
        let links: Vec<_> = vnics.into_iter().map(|vnic| vnic.host_link).collect();
        self.kernel.set_down(&named(namespace), &links).context("set VNICs without rules down")?;
        Err(error.context(format!("{} VNICs are down until their rules are restored", links.len())))
    }

    /// What a namespace's rules have may not be as recorded, though nobody else changed them: the next look compares
    /// them.
    pub(super) fn forget_generation(&self, namespace: &str) {
        self.generations.set(namespace, None);
    }

    /// The namespace is deleted.
    pub(super) fn forget(&self, namespace: &str) {
        self.forget_generation(namespace);
        lock(&self.shared).remove(namespace);
    }
}

fn named(namespace: &str) -> Namespace {
    Namespace::Named(namespace.to_owned())
}
