// SPDX-License-Identifier: Apache-2.0
//! `/v1/hosts` and `/v1/tenants/T/remotes`: the hosts of the cluster and the host of each address, set by a controller.
//!
//! The same body goes to every host. A list replaces the previous one if its generation is higher. An error of the
//! kernel is in the reply; the records are kept, and the next reconcile tries again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ciao_common::serve::server::Reply;
use ciao_common::store::{ClusterHost, Given, ListState, Remote, Tx};
use ciao_common::types::{HostId, Mtu, TenantId};
use serde::{Deserialize, Serialize};

use super::reply::{Failure, json};
use crate::Driver;

/// `PUT`: the whole list of hosts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostsRequest {
    generation: u64,
    hosts: Vec<GivenHost>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenHost {
    id: HostId,
    address: IpAddr,
    mtu: Option<Mtu>,
}

/// `PUT`: all remotes of a tenant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemotesRequest {
    generation: u64,
    remotes: Vec<Remote>,
}

/// `PATCH`: the remotes that change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeRequest {
    base: u64,
    generation: u64,
    #[serde(default)]
    set: Vec<Remote>,
    #[serde(default)]
    delete: Vec<IpAddr>,
}

/// `DELETE`: the generation of the empty list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteRequest {
    generation: u64,
}

/// The list of hosts.
#[derive(Debug, Serialize)]
struct HostsReply {
    generation: u64,
    digest: String,
    /// This host's ID; absent: it is not in the list and has no tunnel.
    own: Option<HostId>,
    hosts: Vec<ClusterHost>,
    /// Packets to tunnels that were dropped: from `strangers`, which are no hosts, `forged` ones with addresses that
    /// are not on the host that sent them, `forwarded` ones, and those `diverted` from the link of `serve --tunnel`.
    dropped: BTreeMap<String, u64>,
}

/// What is recorded of a tenant.
#[derive(Debug, Serialize)]
struct TenantReply {
    tenant: TenantId,
    generation: u64,
    digest: String,
    remotes: u32,
}

/// The default MTU of a host.
const MTU: u32 = 1500;

pub(super) fn give_hosts(driver: &Driver, body: &[u8]) -> Result<Reply, Failure> {
    let HostsRequest { generation, hosts } = parse(body)?;
    let hosts = hosts.into_iter().map(checked).collect::<Result<Vec<_>>>().map_err(Failure::bad_request)?;
    check_hosts(&hosts).map_err(Failure::bad_request)?;
    check_generation(generation)?;
    answer(driver.store.write(move |tx| tx.give_hosts(generation, &hosts))?, || driver.fabric.sync_tunnels())
}

pub(super) fn hosts(driver: &Driver) -> Result<Reply, Failure> {
    let (state, hosts) = driver.store.read(|tx| Ok((tx.hosts_state()?, tx.cluster_hosts()?)))?;
    let ListState { generation, digest } = state.unwrap_or_else(none);
    let own = driver.fabric.tunnels.cluster()?.own.map(|host| host.id);
    let dropped = driver.fabric.tunnels.drops()?;
    json(200, &HostsReply { generation, digest, own, hosts, dropped })
}

pub(super) fn give(driver: &Driver, tenant: &str, body: &[u8]) -> Result<Reply, Failure> {
    let RemotesRequest { generation, remotes } = parse(body)?;
    check_remotes(&remotes).map_err(Failure::bad_request)?;
    record(driver, tenant, generation, move |tx, tenant| tx.give_remotes(tenant, generation, &remotes))
}

pub(super) fn change(driver: &Driver, tenant: &str, body: &[u8]) -> Result<Reply, Failure> {
    let ChangeRequest { base, generation, set, delete } = parse(body)?;
    check_remotes(&set).map_err(Failure::bad_request)?;
    if generation <= base {
        return Err(Failure(400, format!("generation {generation} does not follow base {base}: give a higher one")));
    }
    record(driver, tenant, generation, move |tx, tenant| tx.change_remotes(tenant, (base, generation), set, &delete))
}

pub(super) fn delete(driver: &Driver, tenant: &str, body: &[u8]) -> Result<Reply, Failure> {
    let DeleteRequest { generation } = parse(body)?;
    record(driver, tenant, generation, move |tx, tenant| tx.give_remotes(tenant, generation, &[]))
}

/// The remotes of a tenant, in the form of a request.
pub(super) fn show(driver: &Driver, tenant: &str) -> Result<Reply, Failure> {
    let tenant: TenantId = tenant.parse().map_err(Failure::bad_request)?;
    let (states, remotes) = driver.store.read(|tx| Ok((tx.remotes_states()?, tx.remotes(&tenant)?)))?;
    let Some((_, state, _)) = states.into_iter().find(|(found, ..)| *found == tenant) else {
        return Err(Failure(404, format!("no controller has given remotes of tenant {tenant}")));
    };
    json(200, &serde_json::json!({ "generation": state.generation, "digest": state.digest, "remotes": remotes }))
}

/// The state of each tenant's list, which a controller compares with its own.
pub(super) fn list(driver: &Driver) -> Result<Reply, Failure> {
    let states = driver.store.read(|tx| tx.remotes_states())?;
    let reply = |(tenant, state, remotes): (TenantId, ListState, u32)| TenantReply {
        tenant,
        generation: state.generation,
        digest: state.digest,
        remotes,
    };
    json(200, &states.into_iter().map(reply).collect::<Vec<_>>())
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    ciao_common::api::parse(body).map_err(Failure::bad_request)
}

fn none() -> ListState {
    ListState { generation: 0, digest: format!("{:016x}", 0) }
}

fn checked(host: GivenHost) -> Result<ClusterHost> {
    let GivenHost { id, address, mtu } = host;
    ensure!(
        !address.is_unspecified() && !address.is_loopback() && !address.is_multicast(),
        "host {id} has the address {address}: give that of its link to the other hosts"
    );
    Ok(ClusterHost { id, address, mtu: mtu.map_or_else(|| Mtu::try_from(MTU), Ok)?, number: 0 })
}

fn check_hosts(hosts: &[ClusterHost]) -> Result<()> {
    let (mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for host in hosts {
        ensure!(ids.insert(&host.id), "host {} is given twice", host.id);
        ensure!(addresses.insert(host.address), "two hosts have the address {}", host.address);
        let is_family = host.address.is_ipv4() == hosts[0].address.is_ipv4();
        ensure!(is_family, "hosts {} and {} have addresses of two families: give one", hosts[0].id, host.id);
    }
    Ok(())
}

fn check_remotes(remotes: &[Remote]) -> Result<()> {
    let mut addresses = BTreeSet::new();
    for (address, ..) in remotes {
        ensure!(addresses.insert(*address), "address {address} is given twice");
    }
    Ok(())
}

/// SQLite's integers are signed.
fn check_generation(generation: u64) -> Result<(), Failure> {
    i64::try_from(generation).map(drop).context("generation: give a number below 2^63").map_err(Failure::bad_request)
}

fn record(
    driver: &Driver,
    tenant: &str,
    generation: u64,
    change: impl FnOnce(&Tx<'_>, &TenantId) -> Result<Given> + Send + 'static,
) -> Result<Reply, Failure> {
    check_generation(generation)?;
    let tenant: TenantId = tenant.parse().map_err(Failure::bad_request)?;
    let owner = tenant.clone();
    let given = driver.store.write(move |tx| change(tx, &owner))?;
    answer(given, || {
        let networks = driver.store.read(|tx| tx.networks_of_tenant(&tenant))?;
        networks.iter().try_for_each(|network| driver.fabric.sync_tunnel(&network.id))
    })
}

/// The reply to a list, after the kernel was changed accordingly.
fn answer(given: Given, follow: impl FnOnce() -> Result<()>) -> Result<Reply, Failure> {
    let conflict = |state: ListState, error: String| {
        json(409, &serde_json::json!({ "error": error, "generation": state.generation, "digest": state.digest }))
    };
    match given {
        Given::Recorded(state) => {
            follow().context("it is recorded, and tried again by the next reconcile")?;
            json(200, &state)
        }
        Given::Same(state) => json(200, &state),
        Given::Refused(known) => {
            let state = known.unwrap_or_else(none);
            let error =
                format!("generation {} is recorded here: give the whole list of a higher one", state.generation);
            conflict(state, error)
        }
        Given::Contradicted(state) => {
            let error = format!(
                "another list of generation {} is recorded here: are two controllers at work?",
                state.generation
            );
            conflict(state, error)
        }
    }
}
