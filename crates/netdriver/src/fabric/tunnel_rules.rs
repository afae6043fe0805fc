// SPDX-License-Identifier: Apache-2.0
//! The host's rules of tunnels: which host may send what to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result};
use ciao_common::store::{Egress, Network, Remote, Store};
use ciao_common::sync::lock;

use super::cluster::{Cluster, Leaving, Reach, TunnelConfig};
use super::lost::Lost;
use super::remotes;
use crate::kernel::element::Change;
use crate::kernel::{Kernel, Namespace};
use crate::names;
use crate::rules::{NetworkSenders, TunnelSenders};

/// Elements that are changed at a time: a message of a netlink socket has a limited size.
const FEW: usize = 500;

/// The rules, and what is known of them.
pub(crate) struct TunnelRules {
    store: Arc<Store>,
    kernel: Arc<dyn Kernel>,
    lost: Arc<Lost>,
    config: TunnelConfig,
    written: Mutex<Written>,
}

/// The rules that were written or found last.
#[derive(Default)]
struct Written {
    /// `None`: none, or nothing is known.
    senders: Option<TunnelSenders>,
    /// The generation of the host's rules then; `None`: something else may have changed them.
    generation: Option<u32>,
}

impl TunnelRules {
    pub(super) fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>, lost: Arc<Lost>, config: TunnelConfig) -> Self {
        Self { store, kernel, lost, config, written: Mutex::default() }
    }

    /// What the records allow; `None`: there are no tunnels, and no rules.
    fn wanted(&self) -> Result<Option<TunnelSenders>> {
        let cluster = Cluster::read(&self.store, &*self.kernel, &self.config)?;
        let networks = self.store.read(|tx| {
            let tunnels = tx.tunnels()?.into_iter();
            tunnels.map(|tunnel| Ok((tunnel.vni, tx.network(&tunnel.network)?))).collect::<Result<Vec<_>>>()
        })?;
        // A tunnel left over from a list with this host accepts no packets.
        if cluster.others.is_empty() && networks.is_empty() {
            return Ok(None);
        }
        let networks = networks.into_iter().filter_map(|(vni, network)| Some((vni, network?)));
        let networks = networks.map(|(vni, network)| {
            let known = |tenant| self.store.read(|tx| Ok((remotes::known(tx, tenant)?, Leaving::read(tx, tenant)?)));
            let (remotes, leaving) = network.tenant.as_ref().map_or_else(|| Ok(Default::default()), known)?;
            Ok((vni, of_network(&network, &cluster, &remotes, &leaving)))
        });
        let hosts = cluster.others.values().map(|host| host.address).collect();
        let TunnelConfig { port, link, exchange, .. } = self.config.clone();
        Ok(Some(TunnelSenders { port, link, exchange, hosts, networks: networks.collect::<Result<_>>()? }))
    }

    /// How the rules differ from the records; `None`: not at all. As long as no rule of the host changed, they are not
    /// compared again.
    pub(crate) fn difference(&self) -> Result<Option<String>> {
        let wanted = self.wanted()?;
        self.compare(wanted.as_ref(), &mut lock(&self.written))
    }

    fn compare(&self, wanted: Option<&TunnelSenders>, written: &mut Written) -> Result<Option<String>> {
        // After the loss of the database, what exists stays as it is.
        if self.lost.is_any() || self.store.read(|tx| tx.hosts_state())?.is_none() {
            return Ok(None);
        }
        // Read first: a change during the comparison is noticed by the next one.
        let generation = self.kernel.rules_generation(&Namespace::Host)?;
        if generation.is_some() && written.generation == generation && written.senders.as_ref() == wanted {
            return Ok(None);
        }
        let difference = self.kernel.tunnel_rules_difference(wanted.map(TunnelSenders::ruleset).as_ref())?;
        if difference.is_none() {
            *written = Written { senders: wanted.cloned(), generation };
        }
        Ok(difference)
    }

    /// Makes the rules as recorded.
    pub(crate) fn sync(&self) -> Result<()> {
        let written = lock(&self.written);
        self.sync_locked(written)
    }

    fn sync_locked(&self, mut written: MutexGuard<'_, Written>) -> Result<()> {
        let wanted = self.wanted()?;
        if self.compare(wanted.as_ref(), &mut written)?.is_none() {
            return Ok(());
        }
        let ruleset = wanted.as_ref().map(TunnelSenders::ruleset);
        let generation = self.kernel.load_tunnel_rules(ruleset.as_ref()).context("load the rules of tunnels")?;
        *written = Written { senders: wanted, generation };
        Ok(())
    }

    /// Makes the rules those of a network's records, if the others are as recorded: the cost grows with the change. The
    /// caller has the namespace's lock since before they were read, or an older list may be written last.
    pub(super) fn sync_network(&self, network: &Network, reach: &Reach) -> Result<()> {
        let written = lock(&self.written);
        let Reach { tunnel, cluster, remotes, leaving, .. } = reach;
        match &written.senders {
            Some(senders) if cluster.others.values().all(|host| senders.hosts.contains(&host.address)) => {
                self.change(written, BTreeMap::from([(tunnel.vni, of_network(network, cluster, remotes, leaving))]))
            }
            _ => self.sync_locked(written),
        }
    }

    /// Removes what was allowed in networks that were deleted.
    pub(crate) fn forget_deleted(&self) -> Result<()> {
        let written = lock(&self.written);
        let tunnels = self.store.read(|tx| tx.tunnels())?;
        let Some(senders) = &written.senders else { return Ok(()) };
        if tunnels.is_empty() {
            return self.sync_locked(written);
        }
        let stale = senders.networks.keys().filter(|vni| tunnels.iter().all(|tunnel| tunnel.vni != **vni));
        let stale = stale.map(|vni| (*vni, NetworkSenders::default())).collect();
        self.change(written, stale)
    }

    fn change(&self, mut written: MutexGuard<'_, Written>, wanted: BTreeMap<u32, NetworkSenders>) -> Result<()> {
        let Some(mut senders) = written.senders.take() else { return self.sync_locked(written) };
        let (mut added, mut deleted) = (Vec::new(), Vec::new());
        for (vni, now) in wanted {
            let before = senders.networks.remove(&vni).unwrap_or_default();
            if before.inside != now.inside {
                // It is in the rules themselves.
                return self.sync_locked(written);
            }
            added.extend(now.without(&before).elements(self.config.port, vni));
            deleted.extend(before.without(&now).elements(self.config.port, vni));
            if now != NetworkSenders::default() {
                senders.networks.insert(vni, now);
            }
        }
        let added = added.chunks(FEW).map(|few| (few, Change::Add));
        for (elements, change) in added.chain(deleted.chunks(FEW).map(|few| (few, Change::Delete))) {
            let Ok(after) = self.kernel.change_tunnel_elements(elements, change) else {
                // They were not as they were written.
                return self.sync_locked(written);
            };
            let known = written.generation.map(|generation| generation.wrapping_add(1));
            written.generation = after.filter(|after| Some(*after) == known);
        }
        written.senders = Some(senders);
        Ok(())
    }
}

/// Addresses of all the tenant's subnets: hosts route between them.
fn of_network(network: &Network, cluster: &Cluster, remotes: &[Remote], leaving: &Leaving) -> NetworkSenders {
    let routed = network.egress == Egress::Nat;
    let mut senders = NetworkSenders { unfiltered: !network.secured, routed, ..NetworkSenders::default() };
    for (address, mac, host) in remotes {
        if let Some(host) = cluster.others.get(host) {
            senders.macs.insert((host.address, *mac));
            senders.ips.insert((host.address, *address));
        }
    }
    let others = || cluster.others.values();
    if routed && leaving.cnci.iter().any(|id| cluster.own.as_ref().is_some_and(|own| own.id == *id)) {
        // What leaves by this host comes from others' tunnels themselves.
        senders.macs.extend(others().map(|host| (host.address, names::tunnel_mac(host.address))));
    }
    let concentrators = others().filter(|host| routed && leaving.cnci.contains(&host.id));
    senders.concentrators = concentrators.map(|host| host.address).collect();
    if !senders.concentrators.is_empty() {
        senders.inside.clone_from(&leaving.subnets);
    }
    senders
}
