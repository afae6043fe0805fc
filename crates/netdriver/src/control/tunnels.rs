// SPDX-License-Identifier: Apache-2.0
//! Tunnels to other hosts in metrics and checks.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ciao_common::serve::metrics::{Scrape, single};
use ciao_common::store::Absence;
use ciao_common::types::TenantId;

use super::exchange;
use crate::Driver;
use crate::fabric::remote_plan::Omitted;

/// The metrics, of up to `limit` tenants. Drops are read from the rules, where there are tunnels.
pub(super) fn collect(driver: &Driver, scrape: &mut Scrape, limit: usize) -> Result<()> {
    let (tenants, given) = driver.store.read(|tx| Ok((tx.remotes_states()?, tx.lists_given()?)))?;
    let cluster = driver.fabric.tunnels.cluster()?;
    let others = cluster.others.len();
    scrape.gauge("ciao_tunnel_hosts", "Other hosts of the cluster", single(others as f64));
    let label = |name: &'static str, value: String| vec![(name, value)];
    let of = |tenant: &dyn ToString| label("tenant", tenant.to_string());
    // What a former controller gave counts no more.
    let is_given = driver.config.hosts_file.is_none();
    let tenants = if is_given { &tenants[..tenants.len().min(limit)] } else { &[] };
    let given = given.into_iter().filter(|(tenant, _)| is_given || tenant.is_none());
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
        given.take(limit + 1).map(|(tenant, at)| {
            let list = tenant.map_or_else(|| "(hosts)".to_owned(), |tenant| tenant.to_string());
            (label("list", list), driver.store.by_host_clock(at) as f64 / 1e3)
        }),
    );
    exchange::collect(driver, &cluster, scrape, limit)?;
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
        let problem = format!("{} networks span several hosts, but this host is in no list of hosts", tunnels.len());
        let remedy = "give a list of hosts with an address of this host, see \"ciao-net host list\"".to_owned();
        problems.push((problem, remedy));
        return Ok(problems);
    }
    problems.extend(silent_concentrators(driver)?);
    problems.extend(omitted_networks(driver)?);
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
        (format!("tenant {tenant} has networks over several hosts, but no list of its addresses was given"), remedy)
    }));
    Ok(problems)
}

/// Subnets of tenants with a network here that this host does not route to: one of each tenant, and how many more.
fn omitted_networks(driver: &Driver) -> Result<Vec<(String, String)>> {
    let tenants: BTreeSet<_> =
        driver.store.read(|tx| tx.networks())?.into_iter().filter_map(|one| one.tenant).collect();
    let (here, mut problems) = (driver.fabric.here()?, Vec::new());
    for tenant in tenants {
        let omitted = driver.fabric.omitted_networks(&here, &tenant)?;
        let Some(Omitted { subnet, host, why }) = omitted.first() else { continue };
        let by = host.as_ref().map_or_else(|| "a controller gives".to_owned(), |host| format!("host {host} announces"));
        let more = omitted.len() - 1;
        let problem = format!("subnet {subnet} of tenant {tenant}, which {by}, is not routed to: {why} ({more} more)");
        let remedy = if host.is_some() {
            "if it is the tenant's, \"ciao-net serve --exchange-subnet\" with a subnet that is the tenants' alone; else \
             look at that host"
        } else {
            "give the tenant's networks other subnets or VNIs"
        };
        problems.push((problem, remedy.to_owned()));
    }
    Ok(problems)
}

/// Concentrators that do not answer.
fn silent_concentrators(driver: &Driver) -> Result<Vec<(String, String)>> {
    let (tenants, silent) = driver.store.read(|tx| Ok((tx.tenants_of_cnci()?, tx.absent_hosts(Absence::Silent)?)))?;
    let (mut replaced, mut lost) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeSet::new());
    for tenant in tenants {
        let cnci = driver.store.read(|tx| tx.cnci(&tenant))?;
        if cnci.iter().all(|host| silent.contains_key(host)) {
            lost.insert(tenant);
        } else {
            for host in cnci.into_iter().filter(|host| silent.contains_key(host)) {
                replaced.entry(host).or_default().insert(tenant.clone());
            }
        }
    }
    let of = |tenants: &BTreeSet<TenantId>| {
        let first = tenants.first().map_or_else(String::new, ToString::to_string);
        format!("tenant {first} ({} more)", tenants.len().saturating_sub(1))
    };
    let remedy = |host: &str| format!("look at {host}, whose firewall must accept ICMP echo requests of this host");
    let replaced = replaced.iter().map(|(host, tenants)| {
        let problem = format!("concentrator {host} of {} does not answer: its list's next one is in use", of(tenants));
        (problem, remedy(&host.to_string()))
    });
    let lost = (!lost.is_empty()).then(|| {
        let problem = format!("no concentrator of {} answers: what it sends to other machines is lost", of(&lost));
        (problem, remedy("them"))
    });
    Ok(replaced.chain(lost).collect())
}
