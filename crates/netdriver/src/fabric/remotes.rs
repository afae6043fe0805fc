// SPDX-License-Identifier: Apache-2.0
//! Which host has which address of a tenant: as its controller gives it, or as the hosts say themselves.
//!
//! What a host says is recorded as it is, and judged whenever it is used: it holds as far as the records of this host
//! and the other hosts' claims allow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use ciao_common::store::{Absence, Egress, PeerRemote, Remote, Store, Tx};
use ciao_common::sync::lock;
use ciao_common::types::{HostId, MacAddr, Subnet, TenantId};

use crate::names;

/// Why an address that another host says it has is not taken to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// A VNIC of this host has the address or the MAC address.
    Own,
    /// It is a gateway's address, or a bridge's MAC address.
    Gateway,
    /// Its subnet or VNI is another one on this host.
    Network,
    /// Another host announced the address later.
    Superseded,
    /// Another host, which answers, had the MAC address before, with another address.
    Mac,
}

impl Refusal {
    pub(crate) const ALL: [Self; 5] = [Self::Own, Self::Gateway, Self::Network, Self::Superseded, Self::Mac];

    /// In metrics and lists.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Gateway => "gateway",
            Self::Network => "network",
            Self::Superseded => "superseded",
            Self::Mac => "mac",
        }
    }

    /// In messages.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Own => "this host has that address or MAC address",
            Self::Gateway => "it is a gateway's address, or a bridge's MAC address",
            Self::Network => "its network has another subnet or VNI here",
            Self::Superseded => "another host announced the address later",
            Self::Mac => "another host has the MAC address",
        }
    }
}

/// What this host has of a tenant.
struct Local {
    addresses: BTreeSet<IpAddr>,
    macs: BTreeSet<MacAddr>,
    gateways: BTreeSet<IpAddr>,
    bridges: BTreeSet<MacAddr>,
    /// Subnets with the VNI of their network; `None`: it is on this host alone.
    subnets: Vec<(Subnet, Option<u32>)>,
}

impl Local {
    fn read(tx: &Tx<'_>, tenant: &TenantId) -> Result<Self> {
        let networks = tx.networks_of_tenant(tenant)?;
        let mut local = Self {
            addresses: BTreeSet::new(),
            macs: BTreeSet::new(),
            gateways: BTreeSet::new(),
            bridges: BTreeSet::new(),
            subnets: Vec::new(),
        };
        let namespaces: BTreeSet<_> = networks.iter().filter_map(|network| network.namespace.as_ref()).collect();
        for namespace in namespaces {
            for vnic in tx.vnics_in_namespace(namespace)? {
                local.macs.insert(vnic.mac);
                local.addresses.extend(vnic.addresses());
            }
        }
        for network in &networks {
            let vni = tx.tunnel(&network.id)?.map(|tunnel| tunnel.vni);
            local.bridges.extend(network.namespace.iter().map(|name| names::bridge_mac(name, &network.bridge)));
            for subnet in &network.subnets {
                local.subnets.push((subnet.subnet, vni));
                // Else an instance is the gateway, on whichever host.
                local.gateways.extend(subnet.gateway.filter(|_| network.egress != Egress::Gateway));
            }
        }
        Ok(local)
    }

    fn refuses(&self, claim: &PeerRemote) -> Option<Refusal> {
        let overlaps = |subnet: &Subnet| subnet.covers(claim.subnet) || claim.subnet.covers(*subnet);
        let is_same = self.subnets.contains(&(claim.subnet, Some(claim.vni)));
        let differs = |(subnet, vni): &(Subnet, Option<u32>)| overlaps(subnet) || *vni == Some(claim.vni);
        if self.addresses.contains(&claim.address) || self.macs.contains(&claim.mac) {
            Some(Refusal::Own)
        } else if self.gateways.contains(&claim.address) || self.bridges.contains(&claim.mac) || claim.mac.is_gateway()
        {
            Some(Refusal::Gateway)
        } else {
            (!is_same && self.subnets.iter().any(differs)).then_some(Refusal::Network)
        }
    }
}

/// What other hosts say of addresses, each with the reason why it does not hold.
type Claims = Vec<(PeerRemote, Option<Refusal>)>;

/// What other hosts say of a tenant's addresses.
pub(crate) fn claims(tx: &Tx<'_>, tenant: &TenantId) -> Result<Claims> {
    judge(tx, tenant).map(|(claims, _)| claims)
}

/// The same, and what the controller gives of addresses on hosts that never said anything, as far as it holds.
fn judge(tx: &Tx<'_>, tenant: &TenantId) -> Result<(Claims, Vec<Remote>)> {
    let heard: BTreeSet<_> = tx.peers_heard()?.into_iter().map(|(host, _)| host).collect();
    let given: Vec<_> = tx.remotes(tenant)?.into_iter().filter(|(.., host)| !heard.contains(host)).collect();
    let mut said = tx.peer_remotes(tenant)?;
    if said.is_empty() {
        return Ok((Vec::new(), given));
    }
    let mut absent = tx.absent_hosts(Absence::Silent)?;
    absent.extend(tx.absent_hosts(Absence::Gone)?);
    // Whoever answers still claims the address: a dead host's claim is the earlier one, whenever it was heard.
    said.sort_by_key(|claim| !absent.contains_key(&claim.host));
    let local = Local::read(tx, tenant)?;
    let vnis: BTreeSet<u32> = said.iter().map(|claim| claim.vni).collect();
    let mut foreign = BTreeSet::new();
    for vni in vnis {
        let network = tx.tunnel_of_vni(vni)?.map(|tunnel| tx.network(&tunnel.network)).transpose()?.flatten();
        if network.is_some_and(|network| network.tenant.as_ref() != Some(tenant)) {
            foreign.insert(vni);
        }
    }
    let mut latest = BTreeMap::<IpAddr, HostId>::new();
    let judged = said.into_iter().map(|claim| {
        let refusal = local.refuses(&claim).or_else(|| foreign.contains(&claim.vni).then_some(Refusal::Network));
        if refusal.is_none() {
            latest.insert(claim.address, claim.host.clone());
        }
        (claim, refusal)
    });
    let mut judged: Vec<_> = judged.collect();
    let given: Vec<_> = given.into_iter().filter(|(address, ..)| !latest.contains_key(address)).collect();
    for (claim, refusal) in judged.iter_mut().filter(|(_, refusal)| refusal.is_none()) {
        if latest.get(&claim.address) != Some(&claim.host) {
            *refusal = Some(Refusal::Superseded);
        }
    }
    // Who has a MAC address: whoever had it first of those that answer; a dead host, or one that left, keeps it from
    // nobody.
    let standing = judged.iter().filter(|(_, refusal)| refusal.is_none()).map(|(claim, _)| (claim.mac, &claim.host));
    let mut holders = BTreeMap::<MacAddr, HostId>::new();
    for (mac, host) in given.iter().map(|(_, mac, host)| (*mac, host)).chain(standing) {
        if holders.get(&mac).is_none_or(|holder| absent.contains_key(holder)) {
            holders.insert(mac, host.clone());
        }
    }
    for (claim, refusal) in judged.iter_mut().filter(|(_, refusal)| refusal.is_none()) {
        *refusal = (holders.get(&claim.mac) != Some(&claim.host)).then_some(Refusal::Mac);
    }
    let holds = |(_, mac, host): &Remote| holders.get(mac) == Some(host);
    Ok((judged, given.into_iter().filter(holds).collect()))
}

/// Where a tenant's addresses are: as their hosts say; of a host that never said anything, as the controller gives it.
pub(crate) fn known(tx: &Tx<'_>, tenant: &TenantId) -> Result<Vec<Remote>> {
    let (said, given) = judge(tx, tenant)?;
    let said = said.into_iter().filter(|(_, refusal)| refusal.is_none());
    let known = given.into_iter().chain(said.map(|(claim, _)| (claim.address, claim.mac, claim.host)));
    Ok(known.map(|remote| (remote.0, remote)).collect::<BTreeMap<_, _>>().into_values().collect())
}

/// A claim that does not hold, with its tenant and the reason.
pub(crate) type Refused = (TenantId, PeerRemote, Refusal);

/// How old a judgement of all claims may be that nothing is known to have changed.
const JUDGED_FOR: Duration = Duration::from_secs(60);

/// The claims of all tenants that do not hold, as they were read last: a cluster has many, and few change.
#[derive(Default)]
pub(crate) struct RefusedClaims {
    /// Counts what may change a judgement.
    changes: AtomicU64,
    judged: Mutex<Option<Judged>>,
}

/// What was read last.
struct Judged {
    changes: u64,
    at: Instant,
    refused: Arc<Vec<Refused>>,
}

impl RefusedClaims {
    /// Claims, or this host's records of a tenant, may have changed.
    pub(crate) fn may_have_changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// All of them.
    pub(crate) fn all(&self, store: &Store) -> Result<Arc<Vec<Refused>>> {
        let mut judged = lock(&self.judged);
        // Before what is read: a change meanwhile is noticed the next time.
        let changes = self.changes.load(Ordering::Acquire);
        if let Some(judged) = judged.as_ref().filter(|one| one.changes == changes && one.at.elapsed() < JUDGED_FOR) {
            return Ok(judged.refused.clone());
        }
        let mut refused = Vec::new();
        for tenant in store.read(|tx| tx.peer_tenants())? {
            let claims = store.read(|tx| claims(tx, &tenant))?.into_iter();
            refused.extend(claims.filter_map(|(claim, refusal)| Some((tenant.clone(), claim, refusal?))));
        }
        let refused = Arc::new(refused);
        *judged = Some(Judged { changes, at: Instant::now(), refused: refused.clone() });
        Ok(refused)
    }
}
