// SPDX-License-Identifier: Apache-2.0
//! VNICs' links and rules: made at once or when missing, deleted in batches in the background.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use ciao_common::serve::every::attempt;
use ciao_common::store::{Store, Vnic};
use ciao_common::sync::lock;
use ciao_common::types::{LinkName, VnicId};

use super::bridges::Bridges;
use super::former_macs::FormerMacs;
use super::locks::Locks;
use super::tasks::{self, Batch, Task, Tasks};
use super::tunnels::Tunnels;
use super::veth::{restricted, veth};
use crate::kernel::element::{Change, Element};
use crate::kernel::{Kernel, LinkLocation, Namespace};
use crate::rules::{self, Restrictions};

/// All VNICs.
pub(crate) struct Vnics {
    store: Arc<Store>,
    kernel: Arc<dyn Kernel>,
    bridges: Arc<Bridges>,
    tunnels: Arc<Tunnels>,
    locks: Arc<Locks>,
    tasks: Tasks,
    /// Held while links are deleted.
    deleting: Mutex<()>,
    former: FormerMacs,
}

impl Vnics {
    pub(super) fn new(
        store: Arc<Store>,
        kernel: Arc<dyn Kernel>,
        bridges: Arc<Bridges>,
        tunnels: Arc<Tunnels>,
        locks: Arc<Locks>,
    ) -> Result<Arc<Self>> {
        let (tasks, waiting) = Tasks::new();
        let (deleting, former) = (Mutex::default(), FormerMacs::default());
        let vnics = Arc::new(Self { store, kernel, bridges, tunnels, locks, tasks, deleting, former });
        let weak = Arc::downgrade(&vnics);
        tasks::serve(waiting, move |batch| weak.upgrade().map(|vnics| vnics.run(batch)).is_some())?;
        Ok(vnics)
    }

    /// A panic ends what is under way, and not the thread.
    fn run(&self, batch: &Batch) {
        if let Err(error) = attempt(|| self.send_announcements(&batch.announced)) {
            log::warn!("announce VNICs: {error:#}");
        }
        if !batch.deleted.is_empty()
            && let Err(error) = attempt(|| self.delete(Some(&batch.deleted)))
        {
            log::warn!("delete links: {error:#}: retried by the next reconcile");
        }
    }

    /// Makes the links and rules of a VNIC that was recorded just now. Its bridge and the rules normally exist, so they
    /// are only checked when something fails. The caller has the namespace's lock.
    pub(crate) fn create(&self, vnic: &Vnic, restrictions: Restrictions) -> Result<()> {
        let made =
            self.restrict(vnic, restrictions).and_then(|()| self.kernel.create_veth(&restricted(vnic, restrictions)));
        made.or_else(|error| {
            log::info!("links of VNIC {} cannot be created ({error:#}): checking its bridge", vnic.id);
            self.ensure(vnic).map(drop)
        })?;
        self.tunnels.arrived(vnic)?;
        self.announce(vnic);
        Ok(())
    }

    /// Announces a VNIC, in the background, where its neighbours may remember another MAC address for its address:
    /// engines do not do it, or not rightly.
    fn announce(&self, vnic: &Vnic) {
        if self.former.take_change(vnic) {
            self.tasks.add(Task::Announce(Box::new(vnic.clone())));
        }
    }

    fn send_announcements(&self, vnics: &[Vnic]) -> Result<()> {
        for vnic in vnics {
            let entries: Vec<_> = vnic.addresses().map(|address| (address, vnic.mac)).collect();
            if let Some(namespace) = &vnic.namespace {
                self.kernel.announce(namespace, &vnic.bridge, &entries)?;
            }
        }
        Ok(())
    }

    /// Makes a VNIC's links and rules, if they do not exist; a pair with another MAC address is replaced. The caller
    /// has the namespace's lock. `true`: made.
    pub(crate) fn ensure(&self, vnic: &Vnic) -> Result<bool> {
        if !self.is_missing(vnic)? {
            return Ok(false);
        }
        self.bridges.ensure(vnic.namespace.as_deref(), &vnic.bridge, vnic.mtu)?;
        let restrictions = self.restrictions(vnic)?;
        self.restrict(vnic, restrictions)?;
        self.kernel.create_veth(&restricted(vnic, restrictions))?;
        self.tunnels.arrived(vnic)?;
        self.announce(vnic);
        Ok(true)
    }

    /// Makes a VNIC's link a port of its bridge again, up and with its static entries. The caller has the namespace's
    /// lock.
    pub(super) fn attach(&self, vnic: &Vnic) -> Result<()> {
        self.kernel.attach(&restricted(vnic, self.restrictions(vnic)?))
    }

    fn restrictions(&self, vnic: &Vnic) -> Result<Restrictions> {
        self.store.read(|tx| Restrictions::recorded(tx, vnic))
    }

    /// Adds a VNIC's rules. Done before its link is made, which so never exists without them.
    fn restrict(&self, vnic: &Vnic, restrictions: Restrictions) -> Result<()> {
        let Some(namespace) = &vnic.namespace else { return Ok(()) };
        let elements = rules::vnic_elements(vnic, restrictions);
        self.bridges.tenant_rules.change(namespace, &elements, Change::Add).context("add a VNIC's rules")
    }

    /// Changes a live VNIC's rate and addresses in the kernel. The caller has the namespace's lock.
    pub(crate) fn change(&self, before: &Vnic, after: &Vnic) -> Result<()> {
        if let Some(namespace) = &after.namespace {
            let restrictions = self.restrictions(after)?;
            let (old, new) = (rules::vnic_elements(before, restrictions), rules::vnic_elements(after, restrictions));
            let only = |these: &[Element], those: &[Element]| -> Vec<Element> {
                these.iter().filter(|element| !those.contains(element)).cloned().collect()
            };
            let (gone, added) = (only(&old, &new), only(&new, &old));
            for (elements, change) in [(gone, Change::Delete), (added, Change::Add)] {
                self.bridges.tenant_rules.change(namespace, &elements, change).context("change a VNIC's rules")?;
            }
        }
        let veth = veth(after);
        self.kernel.set_alias(&veth.namespace, &veth.host_link, &veth.alias)?;
        if before.rate == after.rate { Ok(()) } else { self.kernel.set_rate(&veth) }
    }

    /// Whether a VNIC's pair is to be made. One with another MAC address is deleted.
    fn is_missing(&self, vnic: &Vnic) -> Result<bool> {
        match self.kernel.locate(&veth(vnic))? {
            LinkLocation::Container => Ok(false),
            LinkLocation::Host(Some(mac)) if mac == vnic.mac => Ok(false),
            LinkLocation::Host(_) => self.kernel.delete_link(&Namespace::Host, &vnic.container_link).map(|()| true),
            LinkLocation::Absent => Ok(true),
        }
    }

    /// Deletes a VNIC, whose record is in state `deleting`, in the background: the kernel takes some 20 ms.
    pub(crate) fn delete_later(&self, vnic: VnicId) {
        self.tasks.add(Task::Delete(vnic));
    }

    /// Waits until background work that was begun is done.
    #[cfg(any(test, feature = "fake-kernel"))]
    pub(crate) fn wait_for_tasks(&self) {
        self.tasks.wait();
    }

    /// Deletes the links and rules of VNICs in state `deleting` (all, or `only` some), then their records. The caller
    /// has no namespace's lock.
    pub(crate) fn delete(&self, only: Option<&[VnicId]>) -> Result<()> {
        // One at a time: a concurrent deletion would be taken for a change by something else.
        let _turn = lock(&self.deleting);
        let mut deleting = self.store.read(|tx| tx.vnics_deleting())?;
        deleting.retain(|vnic| only.is_none_or(|ids| ids.contains(&vnic.id)));
        if deleting.is_empty() {
            return Ok(());
        }
        self.former.remember(&deleting);
        let (mut deleting, mut failed) = self.delete_links(deleting);
        let mut bridges = BTreeMap::<(&str, &LinkName), Vec<&Vnic>>::new();
        for vnic in &deleting {
            if let Some(namespace) = &vnic.namespace {
                bridges.entry((namespace, &vnic.bridge)).or_default().push(vnic);
            }
        }
        let mut left = BTreeSet::new();
        for ((namespace, bridge), vnics) in bridges {
            let deleted = self.delete_rules(namespace, bridge, &vnics);
            // The namespace may be deleted meanwhile with its last VNIC, and its rules with it.
            if deleted.is_err() && self.kernel.has_namespace(namespace)? {
                left.extend(vnics.iter().map(|vnic| vnic.id.clone()));
                failed = failed.and(deleted);
            }
        }
        deleting.retain(|vnic| !left.contains(&vnic.id));
        let on_host = deleting.iter().any(|vnic| vnic.namespace.is_none());
        self.store.write(move |tx| deleting.iter().try_for_each(|vnic| tx.delete_vnic(&vnic.id)))?;
        self.tunnels.notify();
        if on_host { failed.and(self.bridges.firewall.sync(None)) } else { failed }
    }

    /// Deletes the links of VNICs, in one message if all can be. Returns the VNICs whose links are gone, and why others
    /// are not: a namespace that cannot be entered is its tenant's alone.
    fn delete_links(&self, mut vnics: Vec<Vnic>) -> (Vec<Vnic>, Result<()>) {
        let delete = |vnics: &[Vnic]| self.kernel.delete_veths(&vnics.iter().map(veth).collect::<Vec<_>>());
        if delete(&vnics).is_ok() {
            return (vnics, Ok(()));
        }
        vnics.sort_by(|one, other| one.namespace.cmp(&other.namespace));
        let (mut gone, mut failed) = (Vec::new(), Ok(()));
        for of_one in vnics.chunk_by(|one, other| one.namespace == other.namespace) {
            match delete(of_one) {
                Ok(()) => gone.extend_from_slice(of_one),
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        (gone, failed)
    }

    fn delete_rules(&self, namespace: &str, bridge: &LinkName, vnics: &[&Vnic]) -> Result<()> {
        let Some(one) = vnics.first() else { return Ok(()) };
        let restrictions = self.restrictions(one)?;
        let elements = vnics.iter().flat_map(|vnic| rules::vnic_elements(vnic, restrictions));
        self.bridges
            .tenant_rules
            .change(namespace, &elements.collect::<Vec<_>>(), Change::Delete)
            .context("delete a VNIC's rules")?;
        self.bridges.tenant_rules.share_less(namespace).context("delete a VNIC's addresses from other VNICs' rules")?;
        self.forget_neighbours(namespace, bridge, vnics.iter().flat_map(|vnic| vnic.addresses()).collect())
    }

    /// Removes the neighbours of a bridge that were deleted VNICs'. An address may belong to another VNIC now.
    fn forget_neighbours(&self, namespace: &str, bridge: &LinkName, mut addresses: Vec<IpAddr>) -> Result<()> {
        // Whoever makes that other VNIC's links has the lock.
        let _lock = self.locks.lock(namespace);
        let live = self.store.read(|tx| tx.vnics_on_bridge(Some(namespace), bridge))?;
        let kept: BTreeSet<_> = live.iter().flat_map(Vnic::addresses).collect();
        addresses.retain(|address| !kept.contains(address));
        if addresses.is_empty() || !self.kernel.has_namespace(namespace)? {
            return Ok(());
        }
        self.kernel.forget_neighbours(namespace, bridge, &addresses)?;
        // It may be on another host now.
        self.tunnels.sync_bridge(namespace, bridge)
    }
}
