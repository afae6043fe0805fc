// SPDX-License-Identifier: Apache-2.0
//! `/v1/remotes` and `/v1/tenants/T/remotes`: the host of each address, set by a controller.
//!
//! The same body goes to every host. A list replaces the previous one if its generation is higher. An error of the
//! kernel is in the reply; the records are kept, and the next reconcile tries again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::serve::routes::{Ask, Failure, Route, json};
use ciao_common::serve::server::Reply;
use ciao_common::store::{Given, ListState, Remote, TenantList, TenantSubnet, Tx};
use ciao_common::types::{HostId, MacAddr, TenantId};

use super::exchange;
use super::lists::{
    ChangeRequest, Conflict, DeleteRequest, RemotesReply, RemotesRequest, StateReply, TenantReply, none,
};
use crate::Driver;
use crate::fabric::remotes;

pub(super) const APPLIED: &str = "Applied, or already applied.";
pub(super) const STALE: &str = "Stale generation, different content for the same generation, or wrong base; returns the \
                                recorded generation and digest.";

/// Bytes of a tenant's list: some 70,000 addresses.
const LIST_LIMIT: usize = 4 << 20;

pub(super) fn routes() -> Vec<Route<Arc<Driver>>> {
    vec![
        Route::get(
            "/v1/remotes",
            "listRemotes",
            "List the tenants whose remotes were given, to compare their digests.",
            list,
        )
        .list::<TenantReply>("One for each tenant."),
        Route::get("/v1/tenants/{tenant}/remotes", "showRemotes", "Show a tenant's remotes.", show)
            .parameter::<TenantId>("The tenant.")
            .reply::<RemotesReply>(200, "The list that was given last.")
            .fails(&[404]),
        Route::put(
            "/v1/tenants/{tenant}/remotes",
            "replaceRemotes",
            "Replace a tenant's remotes: where each of its addresses is. The same body goes to every host.",
            give,
        )
        .parameter::<TenantId>("The tenant.")
        .body::<RemotesRequest>()
        .up_to(LIST_LIMIT)
        .reply::<StateReply>(200, APPLIED)
        .reply::<Conflict>(409, STALE)
        .fails(&[422]),
        Route::patch("/v1/tenants/{tenant}/remotes", "changeRemotes", "Change some of a tenant's remotes.", change)
            .parameter::<TenantId>("The tenant.")
            .body::<ChangeRequest>()
            .up_to(LIST_LIMIT)
            .reply::<StateReply>(200, APPLIED)
            .reply::<Conflict>(409, STALE)
            .fails(&[422]),
        Route::delete(
            "/v1/tenants/{tenant}/remotes",
            "deleteRemotes",
            "Delete a tenant's remotes: the list of that generation is empty.",
            delete,
        )
        .parameter::<TenantId>("The tenant.")
        .body::<DeleteRequest>()
        .reply::<StateReply>(200, APPLIED)
        .reply::<Conflict>(409, STALE),
    ]
}

fn give(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let RemotesRequest { generation, remotes, networks, cnci } = ask.body()?;
    check_remotes(&remotes).map_err(Failure::contradiction)?;
    check_networks(driver, &networks).map_err(Failure::contradiction)?;
    check_gateways(&remotes, &networks).map_err(Failure::contradiction)?;
    check_cnci(&networks, &cnci).map_err(Failure::contradiction)?;
    let list = TenantList { remotes, networks, cnci };
    record(driver, ask, generation, move |tx, tenant| tx.give_remotes(tenant, generation, &list))
}

fn change(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let ChangeRequest { base, generation, set, delete } = ask.body()?;
    check_remotes(&set).map_err(Failure::contradiction)?;
    if generation <= base {
        return Err(Failure(422, format!("generation {generation} does not follow base {base}: give a higher one")));
    }
    record(driver, ask, generation, move |tx, tenant| tx.change_remotes(tenant, (base, generation), set, &delete))
}

fn delete(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let DeleteRequest { generation } = ask.body()?;
    record(driver, ask, generation, move |tx, tenant| tx.give_remotes(tenant, generation, &TenantList::default()))
}

/// The remotes of a tenant, in the form of a request; or as the hosts say.
fn show(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let tenant: TenantId = ask.parameter().parse().map_err(Failure::bad_request)?;
    if driver.config.hosts_file.is_some() {
        let ListState { generation, digest } = none();
        let (remotes, networks) =
            driver.store.read(|tx| Ok((remotes::known(tx, &tenant)?, tx.announced_subnets(&tenant)?)))?;
        let networks = networks.into_iter().map(|(_, network)| network).collect();
        let refused = exchange::refused(driver, &tenant)?;
        return json(200, &RemotesReply { generation, digest, remotes, networks, cnci: Vec::new(), refused });
    }
    let (states, remotes) = driver.store.read(|tx| Ok((tx.remotes_states()?, tx.remotes(&tenant)?)))?;
    let (networks, cnci) = driver.store.read(|tx| Ok((tx.tenant_subnets(&tenant)?, tx.cnci(&tenant)?)))?;
    let Some((_, state, _)) = states.into_iter().find(|(found, ..)| *found == tenant) else {
        return Err(Failure(404, format!("no controller has given remotes of tenant {tenant}")));
    };
    let ListState { generation, digest } = state;
    json(200, &RemotesReply { generation, digest, remotes, networks, cnci, refused: Vec::new() })
}

/// The state of each tenant's list, which a controller compares with its own.
fn list(driver: &Arc<Driver>, _: &Ask<'_>) -> Result<Reply, Failure> {
    let states = driver.store.read(|tx| tx.remotes_states())?;
    let reply = |(tenant, state, remotes): (TenantId, ListState, u32)| TenantReply {
        tenant,
        generation: state.generation,
        digest: state.digest,
        remotes,
    };
    json(200, &states.into_iter().map(reply).collect::<Vec<_>>())
}

fn check_remotes(remotes: &[Remote]) -> Result<()> {
    let (mut addresses, mut hosts) = (BTreeSet::new(), BTreeMap::<MacAddr, (IpAddr, &HostId)>::new());
    for (address, mac, host) in remotes {
        ensure!(addresses.insert(*address), "address {address} is given twice");
        ensure!(
            !mac.is_gateway(),
            "address {address} on host {host} has the MAC address {mac}, which is a gateway's: give another one"
        );
        let (other, at) = hosts.entry(*mac).or_insert((*address, host));
        ensure!(
            *at == host,
            "address {address} on host {host} has the MAC address {mac} of address {other} on host {at}: give another \
             one"
        );
    }
    Ok(())
}

/// A gateway is on every host.
fn check_gateways(remotes: &[Remote], networks: &[TenantSubnet]) -> Result<()> {
    let gateways: BTreeMap<_, _> = networks.iter().map(|one| (one.gateway, one.subnet)).collect();
    for (address, _, host) in remotes {
        if let Some(subnet) = gateways.get(address) {
            bail!("address {address} on host {host} is the gateway of subnet {subnet}: give another one");
        }
    }
    Ok(())
}

fn check_networks(driver: &Driver, networks: &[TenantSubnet]) -> Result<()> {
    for (index, TenantSubnet { subnet, vni, gateway, .. }) in networks.iter().enumerate() {
        subnet.check_for_hosts(Some(*gateway))?;
        driver.fabric.uplinks.pool.check_disjoint(*subnet)?;
        ensure!((1..1 << 24).contains(vni), "subnet {subnet} has VNI {vni}: give a number from 1 to 16777215");
        if let Some(other) = networks[..index].iter().find(|other| other.subnet.overlaps(*subnet)) {
            bail!("subnets {} and {subnet} overlap: give others", other.subnet);
        }
    }
    Ok(())
}

fn check_cnci(networks: &[TenantSubnet], cnci: &[HostId]) -> Result<()> {
    let mut known = BTreeSet::new();
    for host in cnci {
        ensure!(known.insert(host), "cnci: host {host} is given twice");
        ensure!(!networks.is_empty(), "cnci: give the tenant's networks too, so that {host} has them");
    }
    Ok(())
}

/// SQLite's integers are signed.
pub(super) fn check_generation(generation: u64) -> Result<(), Failure> {
    i64::try_from(generation).map(drop).context("generation: give a number below 2^63").map_err(Failure::bad_request)
}

fn record(
    driver: &Arc<Driver>,
    ask: &Ask<'_>,
    generation: u64,
    change: impl FnOnce(&Tx<'_>, &TenantId) -> Result<Given> + Send + 'static,
) -> Result<Reply, Failure> {
    check_generation(generation)?;
    if let Some(refused) = exchange::leave_to_hosts(driver)? {
        return Ok(refused);
    }
    let tenant: TenantId = ask.parameter().parse().map_err(Failure::bad_request)?;
    let owner = tenant.clone();
    let given = driver.store.write(move |tx| change(tx, &owner))?;
    answer(given, || {
        driver.fabric.follow_networks(&tenant)?;
        driver.fabric.follow_tenant(&tenant)
    })
}

/// The reply to a list, after the kernel was changed accordingly.
pub(super) fn answer(given: Given, follow: impl FnOnce() -> Result<()>) -> Result<Reply, Failure> {
    let conflict =
        |ListState { generation, digest }: ListState, error: String| json(409, &Conflict { error, generation, digest });
    let recorded = |ListState { generation, digest }: ListState| json(200, &StateReply { generation, digest });
    match given {
        // The same again may be the answer to an error of the kernel.
        Given::Recorded(state) | Given::Same(state) => {
            follow().context("it is recorded, and retried by the next reconcile")?;
            recorded(state)
        }
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
