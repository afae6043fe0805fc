// SPDX-License-Identifier: Apache-2.0
//! `/v1/hosts`: the hosts of the cluster, set by a controller.

use std::sync::Arc;

use anyhow::Result;
use ciao_common::serve::routes::{Ask, Failure, Route, json};
use ciao_common::serve::server::Reply;
use ciao_common::store::{ClusterHost, ListState};
use ciao_common::types::Mtu;

use super::exchange;
use super::lists::{Conflict, GivenHost, HostsReply, HostsRequest, StateReply, none};
use super::remotes::{APPLIED, STALE, answer, check_generation};
use crate::Driver;
use crate::fabric::{HOST_MTU, check_hosts};

pub(super) fn routes() -> Vec<Route<Arc<Driver>>> {
    vec![
        Route::get("/v1/hosts", "listHosts", "List the hosts of the cluster.", list)
            .reply::<HostsReply>(200, "The list that was given last."),
        Route::put(
            "/v1/hosts",
            "replaceHosts",
            "Replace the list of hosts. The same body goes to every host: this one is that with an address of this machine.",
            give,
        )
        .body::<HostsRequest>()
        .reply::<StateReply>(200, APPLIED)
        .reply::<Conflict>(409, STALE)
        .fails(&[422]),
    ]
}

fn give(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let HostsRequest { generation, hosts } = ask.body()?;
    let hosts = hosts.into_iter().map(checked).collect::<Result<Vec<_>>>().map_err(Failure::contradiction)?;
    check_hosts(&hosts).map_err(Failure::contradiction)?;
    check_generation(generation)?;
    if let Some(refused) = exchange::leave_to_hosts(driver)? {
        return Ok(refused);
    }
    answer(driver.store.write(move |tx| tx.give_hosts(generation, &hosts))?, || driver.fabric.follow_hosts())
}

fn list(driver: &Arc<Driver>, _: &Ask<'_>) -> Result<Reply, Failure> {
    let (state, hosts) = driver.store.read(|tx| Ok((tx.hosts_state()?, tx.cluster_hosts()?)))?;
    let ListState { generation, digest } = state.unwrap_or_else(none);
    let cluster = driver.fabric.tunnels.cluster()?;
    let dropped = driver.fabric.tunnels.drops()?;
    let exchange = exchange::hosts(driver, &cluster)?;
    let own = cluster.own.map(|host| host.id);
    json(200, &HostsReply { generation, digest, own, hosts, exchange, dropped })
}

fn checked(host: GivenHost) -> Result<ClusterHost> {
    let GivenHost { id, address, mtu } = host;
    Ok(ClusterHost { id, address, mtu: mtu.map_or_else(|| Mtu::try_from(HOST_MTU), Ok)?, number: 0 })
}
