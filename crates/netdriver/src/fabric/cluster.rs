// SPDX-License-Identifier: Apache-2.0
//! The hosts of the cluster as this one sees them. This host is the one of the list that has an address of this
//! machine, or of its link for tunnels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use ciao_common::store::{Absence, ClusterHost, Remote, Store, Tunnel, Tx, Vnic};
use ciao_common::types::{HostId, LinkName, Subnet, TenantId};

use crate::kernel::Kernel;
use crate::kernel::tunnel::Underlay;

/// MTU of a host's link to the others, unless the list gives another.
pub(crate) const HOST_MTU: u32 = 1500;

/// The smallest MTU of a link with IPv6 (RFC 8200, 5).
pub(crate) const IPV6_MTU: u32 = 1280;

/// How this host's tunnels reach others.
#[derive(Clone, Debug)]
pub struct TunnelConfig {
    /// The UDP port of tunnels, the same on all hosts of a cluster.
    pub port: u16,
    /// The link that they leave and arrive by; `None`: any.
    pub link: Option<LinkName>,
    /// The TCP port of the exchange between hosts; `None`: there is none.
    pub exchange: Option<u16>,
    /// What tenants' subnets must be in that other hosts announce, to be routed to.
    pub exchange_subnets: Vec<Subnet>,
}

/// The hosts of the cluster.
#[derive(Default)]
pub(crate) struct Cluster {
    /// This host; `None`: it is not in the list.
    pub(crate) own: Option<ClusterHost>,
    /// The others.
    pub(crate) others: BTreeMap<HostId, ClusterHost>,
    /// Whether what is sent to them is encrypted on its way.
    pub(crate) is_encrypted: bool,
}

/// What a network leads to beyond this host, read once.
pub(super) struct Reach {
    pub(super) tunnel: Tunnel,
    pub(super) cluster: Cluster,
    /// Of the whole tenant: hosts route between its subnets.
    pub(super) remotes: Vec<Remote>,
    /// On its bridge.
    pub(super) vnics: Vec<Vnic>,
    pub(super) leaving: Leaving,
}

/// How a tenant's packets leave its subnets.
#[derive(Default)]
pub(super) struct Leaving {
    /// The hosts by which, in their order; those that do not answer come last.
    pub(super) cnci: Vec<HostId>,
    /// The VNIs that these have.
    pub(super) vnis: BTreeSet<u32>,
    /// The tenant's subnets.
    pub(super) subnets: BTreeSet<Subnet>,
}

impl Leaving {
    pub(super) fn read(tx: &Tx<'_>, tenant: &TenantId) -> Result<Self> {
        let mut cnci = tx.cnci(tenant)?;
        if cnci.is_empty() {
            return Ok(Self::default());
        }
        let silent = tx.absent_hosts(Absence::Silent)?;
        cnci.sort_by_key(|host| silent.contains_key(host));
        let vnis = tx.tenant_subnets(tenant)?.into_iter().map(|subnet| subnet.vni).collect();
        let networks = tx.networks_of_tenant(tenant)?.into_iter();
        let subnets = networks.flat_map(|network| network.subnets).map(|subnet| subnet.subnet).collect();
        Ok(Self { cnci, vnis, subnets })
    }
}

impl Cluster {
    pub(super) fn read(store: &Store, kernel: &dyn Kernel, config: &TunnelConfig) -> Result<Self> {
        let hosts = store.read(|tx| tx.cluster_hosts())?;
        if hosts.is_empty() {
            return Ok(Self::default());
        }
        let Underlay { addresses, is_encrypted } = match &config.link {
            Some(link) => kernel.underlay(link)?,
            None => {
                let addresses = kernel.host_addresses()?.into_iter().map(|(_, address)| address).collect();
                Underlay { addresses, is_encrypted: false }
            }
        };
        let (own, others): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| addresses.contains(&host.address));
        let others = others.into_iter().map(|host| (host.id.clone(), host)).collect();
        Ok(Self { own: own.into_iter().next(), others, is_encrypted })
    }

    /// Whether there are hosts, and this one has the address of none.
    pub(super) fn is_away(&self) -> bool {
        self.own.is_none() && !self.others.is_empty()
    }

    /// The others' addresses by number; those of the own family, since one socket of a tunnel has an address of one.
    pub(super) fn numbered(&self) -> BTreeMap<u32, IpAddr> {
        let Some(own) = &self.own else { return BTreeMap::new() };
        let others = self.others.values().filter(|host| host.address.is_ipv4() == own.address.is_ipv4());
        others.map(|host| (host.number, host.address)).collect()
    }
}

/// What VXLAN, UDP, IP and the inner Ethernet header take of a packet between hosts, by the family of their addresses.
const OVERHEAD: [u32; 2] = [50, 70];

/// What tunnels between these hosts take of a packet, and the largest MTU of a network over all of them.
pub(crate) fn tunnel_mtu(hosts: &[ClusterHost]) -> (u32, u32) {
    let overhead = OVERHEAD[usize::from(hosts.iter().any(|host| host.address.is_ipv6()))];
    let smallest = hosts.iter().map(|host| host.mtu.bytes()).min().unwrap_or(HOST_MTU);
    (overhead, smallest.saturating_sub(overhead))
}

const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Whether hosts can be one list.
pub(crate) fn check_hosts(hosts: &[ClusterHost]) -> Result<()> {
    let (mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for host in hosts {
        let (id, address) = (&host.id, host.address);
        // Certificates are compared without case.
        ensure!(ids.insert(id.as_str().to_lowercase()), "host {id} is given twice");
        // Each host has the first two kinds.
        let is_one_s = !address.is_unspecified() && !LOCALHOST.contains(&address) && !address.is_multicast();
        ensure!(is_one_s, "host {id} has the address {address}: give that of its link to the other hosts");
        let v4 = address.to_canonical();
        ensure!(v4 == address, "host {id} has the address {address}: give {v4}");
        let is_of_link = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        ensure!(!is_of_link, "host {id} has the address {address}, which is good on its link only: give another one");
        ensure!(addresses.insert(address), "two hosts have the address {address}");
        let is_family = address.is_ipv4() == hosts[0].address.is_ipv4();
        ensure!(is_family, "hosts {} and {id} have addresses of two families: use one", hosts[0].id);
    }
    Ok(())
}
