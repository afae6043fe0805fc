// SPDX-License-Identifier: Apache-2.0
//! Table `peer_record`: the addresses that other hosts say are on them, each host for itself; and this host's own list.
//!
//! The lists' generations are in `generation_record`, as `@HOST`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Result, ensure};
use rusqlite::{Row, params};

use super::absence::Absence;
use super::remote::{Given, ListState, digest, list_state};
use super::value::{Key, Text, get};
use super::{Egress, Tx, Vnic};
use crate::types::{HostId, MacAddr, Subnet, TenantId, fnv1a};

/// An address on a host: its tenant, the address, its MAC address, subnet and VNI of its network.
pub type HostEndpoint = (TenantId, IpAddr, MacAddr, Subnet, u32);

/// What a host says of an address of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRemote {
    /// The address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: MacAddr,
    /// The host that has it, and says so.
    pub host: HostId,
    /// Subnet of its network there.
    pub subnet: Subnet,
    /// VNI of its network there.
    pub vni: u32,
    /// When it said so first, in milliseconds since 1970; of two claims of an address never the same.
    pub told: i64,
}

/// A host's list, as it is recorded.
#[derive(Clone, Debug)]
pub struct PeerList {
    /// The host.
    pub host: HostId,
    /// The state of the list.
    pub state: ListState,
    /// When its last change came, in milliseconds since 1970.
    pub changed: i64,
    /// How many addresses it has.
    pub rows: u32,
}

/// Rows of hosts that left before a time, and their lists.
const GONE: &str = "host IN (SELECT host FROM absent_host WHERE why = 'gone' AND since < ?1)";
const GONE_LISTS: &str = "list IN (SELECT '@' || host FROM absent_host WHERE why = 'gone' AND since < ?1)";

fn list_of(host: &HostId) -> String {
    format!("@{host}")
}

/// The state of a host's list.
pub fn list_of_endpoints(generation: u64, endpoints: &BTreeSet<HostEndpoint>) -> ListState {
    let hash = |(tenant, address, mac, subnet, vni): &HostEndpoint| {
        fnv1a(format!("{tenant} {address} {mac} {subnet} {vni}").as_bytes())
    };
    ListState { generation, digest: digest(endpoints.iter().map(hash)) }
}

fn endpoint(row: &Row<'_>) -> rusqlite::Result<HostEndpoint> {
    Ok((get(row, "tenant")?, get(row, "address")?, get(row, "mac")?, get(row, "subnet")?, row.get("vni")?))
}

fn peer_remote(row: &Row<'_>) -> rusqlite::Result<PeerRemote> {
    Ok(PeerRemote {
        address: get(row, "address")?,
        mac: get(row, "mac")?,
        host: get(row, "host")?,
        subnet: get(row, "subnet")?,
        vni: row.get("vni")?,
        told: row.get("told")?,
    })
}

impl Tx<'_> {
    /// The addresses on this host in networks that reach over several, and the gateways of these.
    pub fn own_endpoints(&self) -> Result<BTreeSet<HostEndpoint>> {
        let mut endpoints = BTreeSet::new();
        for tunnel in self.tunnels()? {
            let Some(network) = self.network(&tunnel.network)? else { continue };
            let Some(tenant) = &network.tenant else { continue };
            if network.egress == Egress::Nat && !network.remote {
                let mac = MacAddr::gateway(tunnel.vni);
                let row = |gateway, subnet| (tenant.clone(), gateway, mac, subnet, tunnel.vni);
                let subnets = network.subnets.iter();
                endpoints.extend(subnets.filter_map(|subnet| Some(row(subnet.gateway?, subnet.subnet))));
            }
            let vnics = self.vnics_on_bridge(network.namespace.as_deref(), &network.bridge)?;
            let of = |vnic: &Vnic| vnic.addresses().map(|address| (address, vnic.mac)).collect::<Vec<_>>();
            for (address, mac) in vnics.iter().flat_map(of) {
                let subnet = network.subnets.iter().find(|subnet| subnet.subnet.contains(address));
                endpoints.extend(subnet.map(|subnet| (tenant.clone(), address, mac, subnet.subnet, tunnel.vni)));
            }
        }
        Ok(endpoints)
    }

    /// Records this host's own list, if it is new: under a generation higher than before and than `above`, and not
    /// lower than the host's clock, so that it is new to others after the loss of the database too.
    pub fn publish(&self, own: &HostId, endpoints: &BTreeSet<HostEndpoint>, above: u64) -> Result<ListState> {
        let list = list_of(own);
        let known = self.list_state(&list)?;
        let clock = u64::try_from(self.now()).unwrap_or_default();
        let generation = known.as_ref().map_or(0, |known| known.generation + 1).max(above + 1).max(clock);
        let given = list_of_endpoints(generation, endpoints);
        if let Some(known) = known.filter(|known| known.digest == given.digest && known.generation > above) {
            return Ok(known);
        }
        self.record_list(&list, given.clone())?;
        Ok(given)
    }

    /// What is recorded of a host's list; `None`: it has sent none.
    pub fn peer_state(&self, host: &HostId) -> Result<Option<ListState>> {
        self.list_state(&list_of(host))
    }

    /// Replaces what a host says is on it. Returns the tenants with changes, too, and how many rows of each.
    ///
    /// # Errors
    /// The host is not in the list of hosts, or left the swarm.
    pub fn give_endpoints(
        &self,
        host: &HostId,
        generation: u64,
        endpoints: &BTreeSet<HostEndpoint>,
    ) -> Result<(Given, BTreeMap<TenantId, u32>)> {
        let (list, given) = (list_of(host), list_of_endpoints(generation, endpoints));
        if let Some(refused) = self.refusal(&list, &given)? {
            return Ok((refused, BTreeMap::new()));
        }
        // Its connection may be older than the change of the list.
        let is_listed = self.cluster_hosts()?.iter().any(|listed| listed.id == *host);
        let is_gone = self.absent_hosts(Absence::Gone)?.contains_key(host);
        ensure!(is_listed && !is_gone, "host {host} is in no list of hosts, or left the swarm");
        let rows = "SELECT tenant, address, mac, subnet, vni FROM peer_record WHERE host = ?1";
        let before: BTreeSet<HostEndpoint> = self.all(rows, [Text(host)], endpoint)?.into_iter().collect();
        for (tenant, address, ..) in before.difference(endpoints) {
            let delete = "DELETE FROM peer_record WHERE tenant = ?1 AND key = ?2 AND host = ?3";
            self.change(delete, params![Text(tenant), Key::of(*address), Text(host)])?;
        }
        for (tenant, address, mac, subnet, vni) in endpoints.difference(&before) {
            let key = Key::of(*address);
            self.change(
                "INSERT INTO peer_record (tenant, key, host, address, mac, subnet, vni, told)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7,
                     max(?8, 1 + coalesce((SELECT max(told) FROM peer_record WHERE tenant = ?1 AND key = ?2), 0))",
                params![Text(tenant), key, Text(host), Text(address), Text(mac), Text(subnet), vni, self.now()],
            )?;
        }
        let mut changed = BTreeMap::<TenantId, u32>::new();
        for (tenant, ..) in before.symmetric_difference(endpoints) {
            *changed.entry(tenant.clone()).or_default() += 1;
        }
        Ok((self.record_list(&list, given)?, changed))
    }

    /// What other hosts say of a tenant's addresses, without gateways, in the order in which they said it.
    pub fn peer_remotes(&self, tenant: &TenantId) -> Result<Vec<PeerRemote>> {
        let rows =
            "SELECT address, mac, host, subnet, vni, told FROM peer_record WHERE tenant = ?1 ORDER BY told, host";
        let mut claims = self.all(rows, [Text(tenant)], peer_remote)?;
        claims.retain(|claim| claim.mac != MacAddr::gateway(claim.vni));
        Ok(claims)
    }

    /// The hosts that any list has an address of a tenant on.
    pub fn hosts_of(&self, tenant: &TenantId, address: IpAddr) -> Result<Vec<HostId>> {
        let hosts = "SELECT host FROM remote_record WHERE tenant = ?1 AND key = ?2
             UNION SELECT host FROM peer_record WHERE tenant = ?1 AND key = ?2";
        self.all(hosts, params![Text(tenant), Key::of(address)], |row| get(row, "host"))
    }

    /// The tenants of which other hosts have addresses.
    pub fn peer_tenants(&self) -> Result<Vec<TenantId>> {
        self.all("SELECT DISTINCT tenant FROM peer_record ORDER BY tenant", [], |row| get(row, "tenant"))
    }

    /// The hosts that have sent their list, and when its last change came, in milliseconds since 1970.
    pub fn peers_heard(&self) -> Result<Vec<(HostId, i64)>> {
        let lists = "SELECT substr(list, 2) AS host, changed FROM generation_record WHERE list LIKE '@%' ORDER BY list";
        self.all(lists, [], |row| Ok((get(row, "host")?, row.get("changed")?)))
    }

    /// The lists of all hosts, this one's too.
    pub fn peer_lists(&self) -> Result<Vec<PeerList>> {
        let lists = "SELECT substr(list, 2) AS host, generation, digest, changed, coalesce(rows, 0) AS rows
             FROM generation_record
             LEFT JOIN (SELECT host AS at, count(*) AS rows FROM peer_record GROUP BY host) ON at = substr(list, 2)
             WHERE list LIKE '@%' ORDER BY list";
        self.all(lists, [], |row| {
            let (host, state) = (get(row, "host")?, list_state(row)?);
            Ok(PeerList { host, state, changed: row.get("changed")?, rows: row.get("rows")? })
        })
    }

    /// Whether anything is recorded that [`Self::forget_gone_peers`] forgets.
    pub fn has_gone_peers(&self, before: i64) -> Result<bool> {
        let any = format!(
            "SELECT 1 FROM peer_record WHERE {GONE} UNION SELECT 1 FROM generation_record WHERE {GONE_LISTS} LIMIT 1"
        );
        Ok(!self.all(&any, [before], |_| Ok(()))?.is_empty())
    }

    /// Forgets what hosts said that left before a time. Returns the tenants with changes.
    pub fn forget_gone_peers(&self, before: i64) -> Result<BTreeSet<TenantId>> {
        let tenants = format!("SELECT DISTINCT tenant FROM peer_record WHERE {GONE}");
        let tenants = self.all(&tenants, [before], |row| get(row, "tenant"))?;
        self.change(&format!("DELETE FROM peer_record WHERE {GONE}"), [before])?;
        self.change(&format!("DELETE FROM generation_record WHERE {GONE_LISTS}"), [before])?;
        Ok(tenants.into_iter().collect())
    }

    /// The tenants of which two hosts claim an address or a MAC address.
    pub fn tenants_with_shared_claims(&self) -> Result<BTreeSet<TenantId>> {
        // All hosts with a network say so of its gateway.
        let claims = "SELECT tenant, mac AS what, host FROM peer_record WHERE mac NOT LIKE '0e:c1:a0:%'
             UNION SELECT tenant, address, host FROM peer_record WHERE mac NOT LIKE '0e:c1:a0:%'
             UNION SELECT tenant, mac, host FROM remote_record";
        let shared =
            format!("SELECT DISTINCT tenant FROM ({claims}) GROUP BY tenant, what HAVING count(DISTINCT host) > 1");
        Ok(self.all(&shared, [], |row| get(row, "tenant"))?.into_iter().collect())
    }

    /// Forgets what hosts said that are in the list of hosts no more.
    pub(super) fn forget_absent_peers(&self) -> Result<()> {
        self.change("DELETE FROM absent_host WHERE host NOT IN (SELECT id FROM cluster_host)", [])?;
        self.change("DELETE FROM peer_record WHERE host NOT IN (SELECT id FROM cluster_host)", [])?;
        let lists = "DELETE FROM generation_record
             WHERE list LIKE '@%' AND substr(list, 2) NOT IN (SELECT id FROM cluster_host)";
        self.change(lists, [])
    }

    /// Forgets what all hosts said. `false`: nothing was recorded.
    pub fn forget_peers(&self) -> Result<bool> {
        let had = !self.peers_heard()?.is_empty();
        self.change("DELETE FROM peer_record", [])?;
        self.clear_gone()?;
        self.change("DELETE FROM generation_record WHERE list LIKE '@%'", [])?;
        Ok(had)
    }
}
