// SPDX-License-Identifier: Apache-2.0
//! Tunnels to other hosts in metrics and checks.

use std::collections::BTreeSet;

use anyhow::Result;
use ciao_common::serve::metrics::{Scrape, single};

use super::exchange;
use crate::Driver;

/// The metrics, of up to `limit` tenants. Drops are read from the rules, where there are tunnels.
pub(super) fn collect(driver: &Driver, scrape: &mut Scrape, limit: usize) -> Result<()> {
    let (tenants, given) = driver.store.read(|tx| Ok((tx.remotes_states()?, tx.lists_given()?)))?;
    let others = driver.fabric.tunnels.cluster()?.others.len();
    scrape.gauge("ciao_tunnel_hosts", "Other hosts of the cluster", single(others as f64));
    let label = |name: &'static str, value: String| vec![(name, value)];
    let of = |tenant: &dyn ToString| label("tenant", tenant.to_string());
    let tenants = &tenants[..tenants.len().min(limit)];
    scrape.gauge(
        "ciao_tunnel_remotes",
        "Addresses in a tenant's list",
        tenants.iter().map(|(tenant, _, remotes)| (of(tenant), f64::from(*remotes))),
    );
    scrape.gauge(
        "ciao_tunnel_generation",
        "Generation of a tenant's list",
        tenants.iter().map(|(tenant, state, _)| (of(tenant), state.generation as f64)),
    );
    scrape.gauge(
        "ciao_tunnel_list_timestamp_seconds",
        "When a list was given last: of hosts, or a tenant's",
        given.into_iter().take(limit + 1).map(|(tenant, at)| {
            let list = tenant.map_or_else(|| "(hosts)".to_owned(), |tenant| tenant.to_string());
            (label("list", list), at as f64 / 1e3)
        }),
    );
    exchange::collect(driver, scrape)?;
    if others > 0 {
        let drops = driver.fabric.tunnels.drops()?;
        scrape.counter(
            "ciao_tunnel_drops",
            "Packets to tunnels that were dropped",
            drops.into_iter().map(|(reason, count)| (label("reason", reason), count as f64)),
        );
    }
    Ok(())
}

/// What is not as it should be, each with its remedy.
pub(super) fn problems(driver: &Driver) -> Result<Vec<(String, String)>> {
    let (tunnels, lists) = driver.store.read(|tx| Ok((tx.tunnels()?, tx.remotes_states()?)))?;
    let mut problems = exchange::problems(driver)?;
    if tunnels.is_empty() {
        return Ok(problems);
    }
    if driver.fabric.tunnels.cluster()?.own.is_none() {
        let problem =
            format!("{} networks reach over several hosts, and this host is in no list of hosts", tunnels.len());
        let remedy = "give a list of hosts with an address of this host, see \"ciao-net host list\"".to_owned();
        problems.push((problem, remedy));
        return Ok(problems);
    }
    let mut unknown = BTreeSet::new();
    let encrypted = driver.fabric.tunnels.check_encrypted();
    for tunnel in &tunnels {
        let Some(network) = driver.store.read(|tx| tx.network(&tunnel.network))? else { continue };
        if tunnel.encrypted
            && let Err(error) = &encrypted
        {
            let remedy = "\"ciao-net serve --tunnel\" with a WireGuard link".to_owned();
            problems.push((format!("network {} reaches no other host: {error:#}", network.id.short()), remedy));
        }
        // Hosts that tell each other know.
        let of_controller = network.tenant.filter(|_| driver.config.hosts_file.is_none());
        unknown.extend(of_controller.filter(|tenant| lists.iter().all(|(known, ..)| known != tenant)));
    }
    problems.extend(unknown.into_iter().map(|tenant| {
        let remedy = format!("PUT /v1/tenants/{tenant}/remotes, if need be with no address");
        (format!("tenant {tenant} reaches over several hosts, and no list of its addresses was given"), remedy)
    }));
    Ok(problems)
}
