// SPDX-License-Identifier: Apache-2.0
//! Tables `cluster_host`, `remote_record` and `generation_record`: which host has which address of a
//! tenant, as a controller gives it.
//!
//! A list has a generation, the controller's fencing token: an older one than is recorded changes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Tx;
use super::tenant_subnet::TenantSubnet;
use super::value::{Key, Text, get, get_optional};
use crate::types::{Address, HostId, MacAddr, Mtu, TenantId, fnv1a};

/// A host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Host)]
pub struct ClusterHost {
    /// The controller's name for it.
    pub id: HostId,
    /// In the network between the hosts.
    #[schema(value_type = Address)]
    pub address: IpAddr,
    /// Of its link there, in bytes.
    pub mtu: Mtu,
    /// Of its nexthop in the kernel, which it keeps as long as it is in the list.
    #[serde(skip)]
    pub number: u32,
}

/// Where an address of a tenant is: the address, its MAC address, the host.
pub type Remote = (IpAddr, MacAddr, HostId);

/// What a controller gives of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantList {
    /// Where its addresses are.
    pub remotes: Vec<Remote>,
    /// Its subnets, for hosts that have not all of them.
    pub networks: Vec<TenantSubnet>,
    /// The hosts by which its packets leave: the first one of the cluster.
    pub cnci: Vec<HostId>,
}

/// A list's generation, and the digest of its rows: sixteen hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListState {
    /// The controller's fencing token.
    pub generation: u64,
    /// The sum of the rows' FNV-1a hashes, modulo 2^64.
    pub digest: String,
}

/// The outcome of a controller's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// It is recorded.
    Recorded(ListState),
    /// It was recorded before: nothing changed.
    Same(ListState),
    /// A newer one is recorded, or not the one that a change is based on; nothing changed.
    Refused(Option<ListState>),
    /// Another list of that generation is recorded, so two controllers are at work; nothing changed.
    Contradicted(ListState),
}

/// The name of the hosts' own list.
const HOSTS: &str = "";

fn host(row: &Row<'_>) -> rusqlite::Result<ClusterHost> {
    Ok(ClusterHost {
        id: get(row, "id")?,
        address: get(row, "address")?,
        mtu: row.get("mtu")?,
        number: row.get("number")?,
    })
}

fn remote(row: &Row<'_>) -> rusqlite::Result<Remote> {
    Ok((get(row, "address")?, get(row, "mac")?, get(row, "host")?))
}

fn host_hash(host: &ClusterHost) -> u64 {
    fnv1a(format!("{} {} {}", host.id, host.address, host.mtu).as_bytes())
}

fn remote_hash((address, mac, host): &Remote) -> u64 {
    fnv1a(format!("{address} {mac} {host}").as_bytes())
}

/// The digest of rows with these hashes, in any order: it can be kept up to date row by row.
pub(super) fn digest(hashes: impl Iterator<Item = u64>) -> String {
    format!("{:016x}", hashes.fold(0_u64, u64::wrapping_add))
}

impl Tx<'_> {
    /// The hosts of the cluster, by id.
    pub fn cluster_hosts(&self) -> Result<Vec<ClusterHost>> {
        self.all("SELECT id, address, mtu, number FROM cluster_host ORDER BY id", [], host)
    }

    /// Replaces the list of hosts; `hosts` have no numbers. One that stays keeps its own.
    pub fn give_hosts(&self, generation: u64, hosts: &[ClusterHost]) -> Result<Given> {
        let given = ListState { generation, digest: digest(hosts.iter().map(host_hash)) };
        if let Some(refused) = self.refusal(HOSTS, &given)? {
            return Ok(refused);
        }
        let mut free = self.cluster_hosts()?.into_iter().map(|host| (host.id, host.number)).collect::<BTreeMap<_, _>>();
        let kept: BTreeMap<_, _> =
            hosts.iter().filter_map(|host| Some((host.id.clone(), free.remove(&host.id)?))).collect();
        let taken: Vec<_> = kept.values().copied().collect();
        let mut numbers = (0..).filter(|number| !taken.contains(number));
        self.change("DELETE FROM cluster_host", [])?;
        for host in hosts {
            let number = kept.get(&host.id).copied().or_else(|| numbers.next());
            self.change(
                "INSERT INTO cluster_host (id, address, mtu, number) VALUES (?1, ?2, ?3, ?4)",
                params![Text(&host.id), Text(host.address), host.mtu, number],
            )?;
        }
        self.forget_absent_peers()?;
        self.record_list(HOSTS, given)
    }

    /// Where a tenant's addresses are, in their order.
    pub fn remotes(&self, tenant: &TenantId) -> Result<Vec<Remote>> {
        let sql = "SELECT address, mac, host FROM remote_record WHERE tenant = ?1 ORDER BY key";
        self.all(sql, [Text(tenant)], remote)
    }

    /// What the controller gives for an address of a tenant.
    fn remote(&self, tenant: &TenantId, address: IpAddr) -> Result<Option<Remote>> {
        let sql = "SELECT address, mac, host FROM remote_record WHERE tenant = ?1 AND key = ?2";
        self.first(sql, params![Text(tenant), Key::of(address)], remote)
    }

    /// Replaces a tenant's list.
    pub fn give_remotes(&self, tenant: &TenantId, generation: u64, list: &TenantList) -> Result<Given> {
        let TenantList { remotes, networks, cnci } = list;
        let ranked = cnci.iter().enumerate().map(|(rank, host)| fnv1a(format!("cnci {rank} {host}").as_bytes()));
        let hashes = remotes.iter().map(remote_hash).chain(networks.iter().map(TenantSubnet::hash)).chain(ranked);
        let given = ListState { generation, digest: digest(hashes) };
        if let Some(refused) = self.refusal(tenant.as_str(), &given)? {
            return Ok(refused);
        }
        self.change("DELETE FROM remote_record WHERE tenant = ?1", [Text(tenant)])?;
        remotes.iter().try_for_each(|remote| self.insert_remote(tenant, remote))?;
        self.set_tenant_subnets(tenant, networks)?;
        self.set_cnci(tenant, cnci)?;
        self.record_list(tenant.as_str(), given)
    }

    fn insert_remote(&self, tenant: &TenantId, (address, mac, host): &Remote) -> Result<()> {
        self.change(
            "INSERT INTO remote_record (tenant, key, address, mac, host) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![Text(tenant), Key::of(*address), Text(address), Text(mac), Text(host)],
        )
    }

    /// Changes some of a tenant's remotes, if those of generation `base` are recorded. The cost grows with the change,
    /// not with the list.
    pub fn change_remotes(
        &self,
        tenant: &TenantId,
        (base, generation): (u64, u64),
        set: Vec<Remote>,
        delete: &[IpAddr],
    ) -> Result<Given> {
        let known = self.list_state(tenant.as_str())?;
        let Some(before) = known.as_ref().filter(|known| [base, generation].contains(&known.generation)) else {
            return Ok(Given::Refused(known));
        };
        let mut changes: BTreeMap<IpAddr, Option<Remote>> = delete.iter().map(|address| (*address, None)).collect();
        changes.extend(set.into_iter().map(|remote| (remote.0, Some(remote))));
        let mut sum = u64::from_str_radix(&before.digest, 16).context("read the digest of the recorded list")?;
        for (address, change) in &changes {
            sum = sum.wrapping_sub(self.remote(tenant, *address)?.as_ref().map_or(0, remote_hash));
            sum = sum.wrapping_add(change.as_ref().map_or(0, remote_hash));
        }
        let given = ListState { generation, digest: format!("{sum:016x}") };
        if let Some(refused) = self.refusal(tenant.as_str(), &given)? {
            return Ok(refused);
        }
        for (address, change) in &changes {
            let delete = "DELETE FROM remote_record WHERE tenant = ?1 AND key = ?2";
            self.change(delete, params![Text(tenant), Key::of(*address)])?;
            change.iter().try_for_each(|remote| self.insert_remote(tenant, remote))?;
        }
        self.record_list(tenant.as_str(), given)
    }

    /// The generation and digest of the list of hosts; `None`: none was given.
    pub fn hosts_state(&self) -> Result<Option<ListState>> {
        self.list_state(HOSTS)
    }

    /// The tenants with a list of remotes, and the number of remotes.
    pub fn remotes_states(&self) -> Result<Vec<(TenantId, ListState, u32)>> {
        self.all(
            "SELECT list, generation, digest, (SELECT count(*) FROM remote_record WHERE tenant = list) AS remotes
             FROM generation_record WHERE list <> '' AND list NOT LIKE '@%' ORDER BY list",
            [],
            |row| Ok((get(row, "list")?, list_state(row)?, row.get("remotes")?)),
        )
    }

    /// When each list was given last, in milliseconds since 1970; `None`: that of the hosts.
    pub fn lists_given(&self) -> Result<Vec<(Option<TenantId>, i64)>> {
        self.all(
            "SELECT nullif(list, '') AS list, changed FROM generation_record WHERE list NOT LIKE '@%' ORDER BY list",
            [],
            |row| Ok((get_optional(row, "list")?, row.get("changed")?)),
        )
    }

    pub(super) fn list_state(&self, list: &str) -> Result<Option<ListState>> {
        self.first("SELECT generation, digest FROM generation_record WHERE list = ?1", [list], list_state)
    }

    /// Why a list is not recorded; `None`: it is to be.
    pub(super) fn refusal(&self, list: &str, given: &ListState) -> Result<Option<Given>> {
        let Some(known) = self.list_state(list)? else { return Ok(None) };
        Ok(match known.generation.cmp(&given.generation) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Greater => Some(Given::Refused(Some(known))),
            std::cmp::Ordering::Equal if known.digest == given.digest => Some(Given::Same(known)),
            std::cmp::Ordering::Equal => Some(Given::Contradicted(known)),
        })
    }

    pub(super) fn record_list(&self, list: &str, given: ListState) -> Result<Given> {
        self.change(
            "INSERT OR REPLACE INTO generation_record (list, generation, digest, changed) VALUES (?1, ?2, ?3, ?4)",
            params![list, i64::try_from(given.generation)?, given.digest, self.now()],
        )?;
        Ok(Given::Recorded(given))
    }
}

pub(super) fn list_state(row: &Row<'_>) -> rusqlite::Result<ListState> {
    let generation: i64 = row.get("generation")?;
    Ok(ListState { generation: generation.unsigned_abs(), digest: row.get("digest")? })
}
