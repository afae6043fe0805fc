// SPDX-License-Identifier: Apache-2.0
//! Tunnels to the other hosts of a cluster: what must exist of them for the recorded lists.
//!
//! This host's own rows of a tenant's remotes are ignored, because its VNICs are in its own records; so every host of a
//! tenant gets the same list.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Result, bail};
use ciao_common::store::{Egress, Network, Store, Vnic};
use ciao_common::sync::lock;
use ciao_common::types::{HostId, LinkName, MacAddr, Subnet};

use super::cluster::{Cluster, Leaving, Reach, TunnelConfig};
use super::lost::Lost;
use super::remotes::{self, RefusedClaims};
use super::tunnel_rules::TunnelRules;
use crate::kernel::tunnel::VxlanLink;
use crate::kernel::{Kernel, Namespace};
use crate::names;

/// All tunnels.
pub(crate) struct Tunnels {
    store: Arc<Store>,
    kernel: Arc<dyn Kernel>,
    config: TunnelConfig,
    lost: Arc<Lost>,
    /// Held while nexthops are changed.
    hosts: Mutex<()>,
    /// This host's address was away: what changed meanwhile is not in the kernel.
    was_away: AtomicBool,
    /// What happens when addresses on this host have changed.
    follower: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Who may send to them.
    pub(crate) rules: TunnelRules,
    /// What other hosts say of addresses that does not hold.
    pub(crate) refused: RefusedClaims,
}

impl Tunnels {
    pub(super) fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>, lost: Arc<Lost>, config: TunnelConfig) -> Self {
        let rules = TunnelRules::new(store.clone(), kernel.clone(), lost.clone(), config.clone());
        let (hosts, was_away, follower) = (Mutex::default(), AtomicBool::default(), OnceLock::new());
        Self { store, kernel, config, lost, hosts, was_away, follower, rules, refused: RefusedClaims::default() }
    }

    /// The hosts of the cluster.
    pub(crate) fn cluster(&self) -> Result<Cluster> {
        let cluster = Cluster::read(&self.store, &*self.kernel, &self.config)?;
        self.was_away.fetch_or(cluster.is_away(), Ordering::Relaxed);
        Ok(cluster)
    }

    /// Which subnets of tenants other hosts' announcements may add here.
    pub(super) fn announced_subnets(&self) -> &[Subnet] {
        &self.config.exchange_subnets
    }

    /// Whether a list of hosts was given, an empty one too. Without any, as after the loss of the database, what exists
    /// of tunnels stays as it is.
    pub(crate) fn are_hosts_known(&self) -> Result<bool> {
        Ok(self.store.read(|tx| tx.hosts_state())?.is_some())
    }

    /// Has `act` called whenever addresses on this host may have changed.
    pub(crate) fn follow(&self, act: impl Fn() + Send + Sync + 'static) {
        // A second exchange of a driver would be an internal error, and is in no program.
        drop(self.follower.set(Box::new(act)));
    }

    /// Addresses on this host may have changed.
    pub(super) fn notify(&self) {
        self.refused.may_have_changed();
        if let Some(act) = self.follower.get() {
            act();
        }
    }

    /// The other hosts as they are to be in the kernel; `None`: what is there stays. While records are missing, links
    /// of running containers go by the former numbers; while this host's address is away, all entries would go too.
    fn wanted_hosts(&self) -> Result<Option<BTreeMap<u32, IpAddr>>> {
        if !self.are_hosts_known()? || self.lost.is_any() {
            return Ok(None);
        }
        let cluster = self.cluster()?;
        Ok((!cluster.is_away()).then(|| cluster.numbered()))
    }

    /// How the kernel's list of other hosts differs from the records; `None`: not at all.
    pub(crate) fn hosts_difference(&self) -> Result<Option<String>> {
        let Some(wanted) = self.wanted_hosts()? else { return Ok(None) };
        if self.was_away.load(Ordering::Relaxed) {
            return Ok(Some("this host's address was away".to_owned()));
        }
        let found = self.kernel.tunnel_hosts()?;
        Ok((wanted != found)
            .then(|| format!("{} nexthops for {} hosts, or other addresses", found.len(), wanted.len())))
    }

    /// All tunnels are written next, whatever changed while this host's address was away.
    pub(super) fn forget_absence(&self) {
        self.was_away.store(false, Ordering::Relaxed);
    }

    /// Writes the other hosts' addresses into the kernel: a message for each that differs.
    pub(crate) fn sync_hosts(&self) -> Result<()> {
        let _lock = lock(&self.hosts);
        // Read after that, or an older list may be written last.
        let Some(wanted) = self.wanted_hosts()? else { return Ok(()) };
        let found = self.kernel.tunnel_hosts()?;
        for number in found.keys().filter(|number| !wanted.contains_key(number)) {
            self.kernel.delete_tunnel_host(*number)?;
        }
        for (number, address) in wanted.into_iter().filter(|(number, address)| found.get(number) != Some(address)) {
            // One of the other family cannot be replaced.
            if found.get(&number).is_some_and(|before| before.is_ipv4() != address.is_ipv4()) {
                self.kernel.delete_tunnel_host(number)?;
            }
            self.kernel.set_tunnel_host(number, address)?;
        }
        Ok(())
    }

    /// Whether what is sent to other hosts is encrypted; else the reason.
    pub(crate) fn check_encrypted(&self) -> Result<()> {
        match &self.config.link {
            None => bail!(
                "tunnels leave by any link of this host: give \"ciao-net serve --tunnel\" an encrypted one (WireGuard)"
            ),
            Some(link) if !self.kernel.underlay(link)?.is_encrypted => bail!(
                "tunnels leave by {link}, which does not encrypt: give \"ciao-net serve --tunnel\" a link that does (WireGuard)"
            ),
            Some(_) => Ok(()),
        }
    }

    /// How many packets to tunnels were dropped, by reason.
    pub(crate) fn drops(&self) -> Result<BTreeMap<String, u64>> {
        self.kernel.tunnel_drops()
    }

    /// What a network leads to; `None`: it is on this host alone.
    fn reach(&self, network: &Network) -> Result<Option<Reach>> {
        let (Some(namespace), Some(tenant)) = (&network.namespace, &network.tenant) else { return Ok(None) };
        let Some(tunnel) = self.store.read(|tx| tx.tunnel(&network.id))? else { return Ok(None) };
        let cluster = self.cluster()?;
        let (remotes, vnics, leaving) = self.store.read(|tx| {
            let vnics = tx.vnics_on_bridge(Some(namespace), &network.bridge)?;
            Ok((remotes::known(tx, tenant)?, vnics, Leaving::read(tx, tenant)?))
        })?;
        Ok(Some(Reach { tunnel, cluster, remotes, vnics, leaving }))
    }

    /// The link that must exist for a network; `None`: none, because it is on this host alone, or this host is not in
    /// the list.
    pub(crate) fn link(&self, network: &Network) -> Result<Option<VxlanLink>> {
        self.reach(network)?.map_or(Ok(None), |reach| self.link_of(network, &reach))
    }

    fn link_of(&self, network: &Network, reach: &Reach) -> Result<Option<VxlanLink>> {
        let Reach { tunnel, cluster: Cluster { own, others, is_encrypted }, remotes, vnics, leaving } = reach;
        let (Some(namespace), Some(host)) = (&network.namespace, own) else { return Ok(None) };
        let own: BTreeSet<_> = vnics.iter().flat_map(Vnic::addresses).collect();
        let own_macs: BTreeSet<_> = vnics.iter().map(|vnic| vnic.mac).collect();
        let (mut macs, mut neighbours, mut flood) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        // A link without entries sends nothing.
        let is_closed = tunnel.encrypted && !is_encrypted;
        let reached = |id: &HostId| others.get(id).filter(|other| other.address.is_ipv4() == host.address.is_ipv4());
        for (address, mac, at) in remotes.iter().filter(|_| !is_closed) {
            let is_here = network.subnets.iter().any(|subnet| subnet.subnet.contains(*address));
            if let (true, Some(other)) = (is_here && !own.contains(address) && !own_macs.contains(mac), reached(at)) {
                flood.insert(other.address);
                macs.insert(*mac, other.number);
                neighbours.insert(*address, *mac);
            }
        }
        // A concentrator has the networks of the list alone.
        let leaves = !is_closed && network.egress == Egress::Nat && leaving.vnis.contains(&tunnel.vni);
        let first = leaving.cnci.iter().filter(|_| leaves).find(|id| **id == host.id || reached(id).is_some());
        Ok(Some(VxlanLink {
            namespace: namespace.clone(),
            bridge: network.bridge.clone(),
            link: names::tunnel_link(&network.id)?,
            vni: tunnel.vni,
            local: host.address,
            port: self.config.port,
            mtu: network.mtu,
            gateway: MacAddr::gateway(tunnel.vni),
            macs,
            neighbours,
            exit: first.and_then(reached).map(|host| host.number),
            flood: tunnel.flood.then_some(flood),
            own,
        }))
    }

    /// Makes a network's tunnel as recorded: addresses on this host may have changed. The caller has the namespace's
    /// lock.
    pub(crate) fn ensure(&self, network: &Network) -> Result<()> {
        self.notify();
        self.follow_others(network)
    }

    /// Makes a network's tunnel as recorded: what is on other hosts may have changed. The caller has the namespace's
    /// lock.
    pub(crate) fn follow_others(&self, network: &Network) -> Result<()> {
        let Some(reach) = self.reach(network)? else { return Ok(()) };
        if let Some(namespace) = &network.namespace {
            // Before there are other hosts, or containers would have to look for their gateway again.
            self.kernel.set_gateway_mac(namespace, &network.bridge, MacAddr::gateway(reach.tunnel.vni))?;
        }
        self.rules.sync_network(network, &reach)?;
        let Some(link) = self.link_of(network, &reach)? else { return Ok(()) };
        self.sync_hosts()?;
        self.kernel.ensure_tunnel(&link)
    }

    /// How a network's tunnel differs from the records; `None`: not at all, or there is none.
    pub(crate) fn difference(&self, network: &Network) -> Result<Option<String>> {
        self.link(network)?.map_or(Ok(None), |link| self.kernel.tunnel_difference(&link))
    }

    /// Writes the tunnels of a bridge, whose VNICs changed. The caller has the namespace's lock.
    pub(crate) fn sync_bridge(&self, namespace: &str, bridge: &LinkName) -> Result<()> {
        let tunnels = self.store.read(|tx| tx.tunnels_on_bridge(namespace, bridge))?;
        for tunnel in tunnels {
            if let Some(network) = self.store.read(|tx| tx.network(&tunnel.network))? {
                self.ensure(&network)?;
            }
        }
        Ok(())
    }

    /// Takes the entries of a VNIC's addresses out of its tunnel, if they led to another host: it has moved here. The
    /// caller has the namespace's lock.
    pub(crate) fn arrived(&self, vnic: &Vnic) -> Result<()> {
        let (Some(namespace), Some(tenant)) = (&vnic.namespace, &vnic.tenant) else { return Ok(()) };
        if self.store.read(|tx| tx.tunnels_on_bridge(namespace, &vnic.bridge))?.is_empty() {
            return Ok(());
        }
        self.notify();
        let others = self.cluster()?.others;
        for address in vnic.addresses() {
            if self.store.read(|tx| tx.hosts_of(tenant, address))?.iter().any(|host| others.contains_key(host)) {
                return self.sync_bridge(namespace, &vnic.bridge);
            }
        }
        Ok(())
    }

    /// Removes the tunnel of a deleted network, before its bridge. The caller has the namespace's lock.
    pub(crate) fn remove(&self, namespace: &str, deleted: &Network) -> Result<()> {
        self.notify();
        self.rules.forget_deleted()?;
        let link = names::tunnel_link(&deleted.id)?;
        let inside = Namespace::Named(namespace.to_owned());
        if !self.kernel.links(&inside)?.contains(&link) {
            return Ok(());
        }
        let remotes = deleted
            .tenant
            .as_ref()
            .map_or(Ok(Vec::new()), |tenant| self.store.read(|tx| remotes::known(tx, tenant)))?;
        let vnics = self.store.read(|tx| tx.vnics_on_bridge(Some(namespace), &deleted.bridge))?;
        let own: BTreeSet<_> = vnics.iter().flat_map(Vnic::addresses).collect();
        let left: Vec<_> = remotes.into_iter().map(|(address, ..)| address).filter(|a| !own.contains(a)).collect();
        self.kernel.forget_neighbours(namespace, &deleted.bridge, &left)?;
        self.kernel.delete_tunnel(namespace, &deleted.bridge, &link)
    }
}
