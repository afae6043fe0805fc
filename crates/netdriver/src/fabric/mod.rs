//! The kernel's part of networks and VNICs: what must stand for a record, and what goes when the last record is gone.
//!
//! Records come before links when something is made, and go to state `deleting` before links are deleted; so a crash
//! leaves records without links, or links that a record still names, and [`crate::reconcile`] repairs both.

pub(crate) mod host_rules;
mod uplinks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use ciao_common::store::{Egress, Network, Store, Vnic};
use ciao_common::types::{LinkName, Mtu, Subnet, VnicId};

use crate::fabric::host_rules::HostRules;
use crate::kernel::element::Change;
use crate::kernel::{HostLink, Kernel, Namespace, Passage, Place, Veth};
use crate::rules::{self, Walls};
use crate::uplink_pool::UplinkPool;

/// Calls that touch one namespace take turns; calls on others go on. This many locks for all namespaces.
const LOCKS: usize = 64;

/// The store and the kernel together.
pub(crate) struct Fabric {
    pub(crate) store: Arc<Store>,
    pub(crate) kernel: Arc<dyn Kernel>,
    pub(crate) pools: UplinkPool,
    /// What is known of the host's rules; whoever changes them has it.
    pub(crate) host_rules: Mutex<HostRules>,
    locks: Vec<Mutex<()>>,
    /// Whoever writes a namespace's rules has one of these, so that a ruleset read from the records is never older than
    /// an element that somebody else just wrote. Nothing else is locked inside.
    rules_locks: Vec<Mutex<()>>,
    going: Mutex<Sender<VnicId>>,
}

fn lock_of<'a>(locks: &'a [Mutex<()>], namespace: Option<&str>) -> MutexGuard<'a, ()> {
    let name = namespace.unwrap_or("");
    let sum = name.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    // A poisoned lock guards nothing that could be half done: the kernel and the store are looked at anew.
    locks[sum % locks.len()].lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's view of a VNIC.
pub(crate) fn veth(vnic: &Vnic) -> Veth {
    Veth {
        namespace: Namespace::of(vnic.namespace.as_deref()),
        bridge: vnic.bridge.clone(),
        host_link: vnic.host_link.clone(),
        container_link: vnic.container_link.clone(),
        mac: vnic.mac,
        addresses: vnic.addresses().collect(),
        learns: false,
        mtu: vnic.mtu,
        rate: vnic.rate,
    }
}

/// The same, as the networks on its bridge say what it may do.
fn restricted(vnic: &Vnic, walls: Walls) -> Veth {
    Veth { learns: !walls.secured, ..veth(vnic) }
}

impl Fabric {
    pub(crate) fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>, pools: UplinkPool) -> Result<Arc<Self>> {
        let (going, waiting) = channel();
        let locks = || (0..LOCKS).map(|_| Mutex::new(())).collect();
        let fabric = Arc::new(Self {
            store,
            kernel,
            pools,
            host_rules: Mutex::default(),
            locks: locks(),
            rules_locks: locks(),
            going: Mutex::new(going),
        });
        fabric.start_deleting(waiting)?;
        Ok(fabric)
    }

    /// Starts the thread that deletes links in the background, as long as the fabric lives.
    fn start_deleting(self: &Arc<Self>, waiting: Receiver<VnicId>) -> Result<()> {
        let fabric = Arc::downgrade(self);
        let serve = move || {
            while let Ok(first) = waiting.recv() {
                let ids: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).collect();
                let Some(fabric) = fabric.upgrade() else { return };
                if let Err(error) = fabric.delete_links(Some(ids)) {
                    log::warn!("delete links: {error:#}: the next reconcile tries again");
                }
            }
        };
        std::thread::Builder::new().name("links".into()).spawn(serve).context("start a thread")?;
        Ok(())
    }

    /// Until it is dropped, nobody else changes what is in the namespace.
    pub(crate) fn lock(&self, namespace: Option<&str>) -> MutexGuard<'_, ()> {
        lock_of(&self.locks, namespace)
    }

    /// Until it is dropped, nobody else changes the namespace's rules.
    pub(crate) fn lock_rules(&self, namespace: Option<&str>) -> MutexGuard<'_, ()> {
        lock_of(&self.rules_locks, namespace)
    }

    /// Where a network's or VNIC's bridge is: `None` for one that exists in the host's namespace and is not ours.
    pub(crate) fn namespace_for(&self, bridge: Option<&LinkName>, ours: String) -> Result<Option<String>> {
        let Some(bridge) = bridge else { return Ok(Some(ours)) };
        match self.kernel.host_link(bridge)? {
            HostLink::Absent => Ok(Some(ours)),
            HostLink::Bridge => Ok(None),
            HostLink::Other => bail!("{bridge} is a link of this host but not a bridge: give another --opt bridge"),
        }
    }

    /// Makes namespace and bridge, if they are not there. The caller has the namespace's lock.
    pub(crate) fn ensure_bridge(&self, namespace: Option<&str>, bridge: &LinkName, mtu: Option<Mtu>) -> Result<()> {
        let Some(name) = namespace else {
            return match self.kernel.host_link(bridge)? {
                HostLink::Bridge => self.kernel.open_firewall(&Passage::Bridge(bridge.clone())),
                _ => bail!("bridge {bridge} of this host is not there any more: make it again, it is not ciao-net's"),
            };
        };
        if self.kernel.ensure_namespace(name)? {
            self.load_rules(name)?;
        }
        if self.kernel.ensure_bridge(name, bridge, mtu)? {
            // Somebody may have deleted it under its ports.
            self.attach_all(name, bridge)?;
        }
        Ok(())
    }

    /// Makes the VNICs of a bridge its ports again, with all that the bridge knows of them.
    pub(crate) fn attach_all(&self, namespace: &str, bridge: &LinkName) -> Result<()> {
        let (networks, vnics) = self.store.read(|tx| {
            Ok((tx.networks_on_bridge(Some(namespace), bridge)?, tx.vnics_on_bridge(Some(namespace), bridge)?))
        })?;
        vnics.iter().try_for_each(|vnic| self.kernel.attach(&restricted(vnic, Walls::on_bridge(&networks, vnic))))
    }

    /// Makes all that a network needs, if it is not there. The caller has the namespace's lock.
    pub(crate) fn ensure_network(&self, network: &Network) -> Result<()> {
        self.build_network(network)?;
        self.open_network(network)
    }

    /// The links of [`Self::ensure_network`]: namespace, bridge, gateways, and the way out.
    pub(crate) fn build_network(&self, network: &Network) -> Result<()> {
        self.ensure_bridge(network.namespace.as_deref(), &network.bridge, network.mtu)?;
        let Some(namespace) = network.namespace.as_deref().filter(|_| network.egress == Egress::Nat) else {
            return Ok(());
        };
        for subnet in &network.subnets {
            if let Some(gateway) = subnet.gateway {
                self.kernel.add_address(namespace, &network.bridge, subnet.subnet, gateway)?;
            }
        }
        self.ensure_uplink(namespace, network)
    }

    /// Makes the links and rules of a VNIC that was recorded just now. Bridge and rules stand as a rule, so they are
    /// looked at only where something fails. The caller has the namespace's lock.
    pub(crate) fn new_vnic(&self, vnic: &Vnic, walls: Walls) -> Result<()> {
        let made = self.secure(vnic, walls).and_then(|()| self.kernel.create_veth(&restricted(vnic, walls)));
        made.or_else(|error| {
            log::info!("links of VNIC {} cannot be made at once ({error:#}): looking at its bridge", vnic.id);
            self.ensure_vnic(vnic)
        })
    }

    /// Takes back what [`Self::new_vnic`] made: its record could not be written.
    pub(crate) fn unmake_vnic(&self, vnic: &Vnic, walls: Walls) -> Result<()> {
        self.kernel.delete_veths(&[veth(vnic)])?;
        let Some(namespace) = &vnic.namespace else { return Ok(()) };
        self.forget_neighbours(namespace, &vnic.bridge, vnic.addresses().collect())?;
        self.change_rules(namespace, &rules::vnic_elements(vnic, walls), Change::Delete)
    }

    /// Makes a VNIC's links and rules, if they are not there; a pair with another MAC address is made anew. The caller
    /// has the namespace's lock.
    pub(crate) fn ensure_vnic(&self, vnic: &Vnic) -> Result<()> {
        if !self.is_missing(vnic)? {
            return Ok(());
        }
        self.ensure_bridge(vnic.namespace.as_deref(), &vnic.bridge, vnic.mtu)?;
        let walls = self.walls_of(vnic)?;
        self.secure(vnic, walls)?;
        self.kernel.create_veth(&restricted(vnic, walls))
    }

    fn walls_of(&self, vnic: &Vnic) -> Result<Walls> {
        let networks = self.store.read(|tx| tx.networks_on_bridge(vnic.namespace.as_deref(), &vnic.bridge))?;
        Ok(Walls::on_bridge(&networks, vnic))
    }

    /// Says what a VNIC may call itself. Done before its link is made: that is never without its rules.
    fn secure(&self, vnic: &Vnic, walls: Walls) -> Result<()> {
        let Some(namespace) = &vnic.namespace else { return Ok(()) };
        self.change_rules(namespace, &rules::vnic_elements(vnic, walls), Change::Add).context("secure a VNIC")
    }

    /// The links of [`Self::ensure_vnic`], where bridge and rules stand already.
    pub(crate) fn build_vnic(&self, vnic: &Vnic) -> Result<()> {
        if self.is_missing(vnic)? { self.kernel.create_veth(&restricted(vnic, self.walls_of(vnic)?)) } else { Ok(()) }
    }

    /// Whether a VNIC's pair is to be made. One with another MAC address is taken away.
    fn is_missing(&self, vnic: &Vnic) -> Result<bool> {
        match self.kernel.place(&veth(vnic))? {
            Place::Container => Ok(false),
            Place::Host(Some(mac)) if mac == vnic.mac => Ok(false),
            Place::Host(_) => self.kernel.delete_link(&Namespace::Host, &vnic.container_link).map(|()| true),
            Place::Gone => Ok(true),
        }
    }

    /// Deletes a VNIC's links, whose record is `deleting` already, in the background: the kernel needs some 20 ms.
    pub(crate) fn delete_later(&self, vnic: VnicId) {
        let sender = self.going.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.send(vnic).is_err() {
            log::warn!("the thread that deletes links has ended: the next start deletes what is left");
        }
    }

    /// Deletes a VNIC's links, whose record is `deleting` already, and its record.
    pub(crate) fn delete_now(&self, vnic: VnicId) -> Result<()> {
        self.delete_links(Some(vec![vnic]))
    }

    /// Deletes the links of every VNIC that is `deleting`.
    pub(crate) fn delete_all_going(&self) -> Result<()> {
        self.delete_links(None)
    }

    /// Deletes the links of VNICs that are `deleting` (all, or `only` some), then their records.
    fn delete_links(&self, only: Option<Vec<VnicId>>) -> Result<()> {
        let mut going = self.store.read(|tx| tx.vnics_deleting())?;
        if let Some(ids) = only {
            going.retain(|vnic| ids.contains(&vnic.id));
        }
        if going.is_empty() {
            return Ok(());
        }
        self.kernel.delete_veths(&going.iter().map(veth).collect::<Vec<_>>())?;
        let mut bridges = BTreeMap::<(String, LinkName), Vec<&Vnic>>::new();
        for vnic in &going {
            if let Some(namespace) = &vnic.namespace {
                bridges.entry((namespace.clone(), vnic.bridge.clone())).or_default().push(vnic);
            }
        }
        for ((namespace, bridge), vnics) in bridges {
            // The namespace may have gone with its last VNIC, and its rules with it.
            if self.kernel.has_namespace(&namespace)? {
                let networks = self.store.read(|tx| tx.networks_on_bridge(Some(&namespace), &bridge))?;
                let elements: Vec<_> = vnics
                    .iter()
                    .flat_map(|vnic| rules::vnic_elements(vnic, Walls::on_bridge(&networks, vnic)))
                    .collect();
                self.change_rules(&namespace, &elements, Change::Delete)
                    .context("forget what a VNIC may call itself")?;
                let addresses = vnics.iter().flat_map(|vnic| vnic.addresses()).collect();
                self.forget_neighbours(&namespace, &bridge, addresses)?;
            }
        }
        self.store.write(move |tx| going.iter().try_for_each(|vnic| tx.delete_vnic(&vnic.id)))
    }

    /// Removes the neighbours of a bridge that were VNICs' which are deleted. An address may be another VNIC's by now.
    fn forget_neighbours(&self, namespace: &str, bridge: &LinkName, mut addresses: Vec<IpAddr>) -> Result<()> {
        // Whoever makes that other VNIC's links has the lock, and its record may not be written yet.
        let _lock = self.lock(Some(namespace));
        self.store.settle()?;
        let live = self.store.read(|tx| tx.vnics_on_bridge(Some(namespace), bridge))?;
        let kept: BTreeSet<_> = live.iter().flat_map(Vnic::addresses).collect();
        addresses.retain(|address| !kept.contains(address));
        if addresses.is_empty() || !self.kernel.has_namespace(namespace)? {
            return Ok(());
        }
        self.kernel.forget_neighbours(namespace, bridge, &addresses)
    }

    /// Removes a bridge of ours that no network and no VNIC uses any more, and its namespace with the last one.
    /// What is still used loses gateways that no network has. The caller has the namespace's lock.
    pub(crate) fn tidy(&self, gone: &Network) -> Result<()> {
        let Some(namespace) = gone.namespace.as_deref() else {
            return self.tidy_host_bridge(&gone.bridge);
        };
        self.close_network(namespace, gone)?;
        self.tidy_uplink(namespace)?;
        if !self.tidy_bridge(namespace, &gone.bridge)? {
            for subnet in &gone.subnets {
                if let Some(gateway) = subnet.gateway
                    && !self.is_gateway(namespace, &gone.bridge, gateway)?
                {
                    self.kernel.remove_address(namespace, &gone.bridge, subnet.subnet, gateway)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a network on the bridge has its gateway's address answered there.
    pub(crate) fn is_gateway(&self, namespace: &str, bridge: &LinkName, address: IpAddr) -> Result<bool> {
        let networks = self.store.read(|tx| tx.networks_on_bridge(Some(namespace), bridge))?;
        let mut answered = networks.iter().filter(|network| network.egress == Egress::Nat);
        Ok(answered.any(|network| network.subnets.iter().any(|subnet| subnet.gateway == Some(address))))
    }

    /// Whether an address on a bridge of ours is a network's gateway, or somebody else's on a network whose gateway we do
    /// not answer.
    pub(crate) fn may_stay(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<bool> {
        let networks = self.store.read(|tx| tx.networks_on_bridge(Some(namespace), bridge))?;
        Ok(networks.iter().any(|network| {
            let answered = network.egress == Egress::Nat;
            network.subnets.iter().any(|own| if answered { own.gateway == Some(address) } else { own.subnet == subnet })
        }))
    }

    /// Removes a bridge of ours that nothing uses, and its namespace with the last one. `true`: removed. The caller
    /// has the namespace's lock.
    pub(crate) fn tidy_bridge(&self, namespace: &str, bridge: &LinkName) -> Result<bool> {
        let (in_use, namespace_in_use) = self.store.read(|tx| {
            let networks = tx.networks_on_bridge(Some(namespace), bridge)?;
            let vnics = tx.vnics_on_bridge(Some(namespace), bridge)?;
            Ok((!networks.is_empty() || !vnics.is_empty(), tx.is_namespace_used(namespace)?))
        })?;
        if !namespace_in_use {
            self.kernel.delete_namespace(namespace)?;
        } else if !in_use {
            self.kernel.delete_link(&Namespace::Named(namespace.to_owned()), bridge)?;
        }
        Ok(!in_use)
    }

    fn tidy_host_bridge(&self, bridge: &LinkName) -> Result<()> {
        let used = self.store.read(|tx| {
            Ok(!tx.networks_on_bridge(None, bridge)?.is_empty() || !tx.vnics_on_bridge(None, bridge)?.is_empty())
        })?;
        if used { Ok(()) } else { self.kernel.close_firewall(&Passage::Bridge(bridge.clone())) }
    }
}
