// SPDX-License-Identifier: Apache-2.0
//! The exchange between hosts in replies, metrics and checks.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use anyhow::Result;
use ciao_common::serve::metrics::Scrape;
use ciao_common::serve::routes::{Failure, json};
use ciao_common::serve::server::Reply;
use ciao_common::store::{Absence, ListState, PeerList, PeerRemote};
use ciao_common::types::{HostId, TenantId};

use super::lists::{Conflict, RefusedRemote, none};
use crate::Driver;
use crate::fabric::Cluster;
use crate::fabric::remotes::{self, Refusal};
use crate::peers::{CERTIFICATE, LIST};

/// How long two hosts may have an address, as it moves.
const MOVE: i64 = 10_000;

/// The refusal of a controller's list, where hosts announce their addresses to each other.
pub(super) fn leave_to_hosts(driver: &Driver) -> Result<Option<Reply>, Failure> {
    let Some(file) = &driver.config.hosts_file else { return Ok(None) };
    let error = format!(
        "addresses are exchanged between hosts (--exchange): edit {} instead, or start ciao-net without --exchange",
        file.display()
    );
    let ListState { generation, digest } = driver.store.read(|tx| tx.hosts_state())?.unwrap_or_else(none);
    json(409, &Conflict { error, generation, digest }).map(Some)
}

/// Whether each host has this host's addresses as they are now, or why it is not reached.
type Standing = Result<bool, String>;

/// State of the exchange with each host: `in step`, `behind`, or why it is unreachable.
pub(super) fn hosts(driver: &Driver, cluster: &Cluster) -> Result<BTreeMap<HostId, String>> {
    let text = |standing: Standing| match standing {
        Ok(true) => "in step".to_owned(),
        Ok(false) => "behind".to_owned(),
        Err(why) => why,
    };
    Ok(standings(driver, cluster)?.into_iter().map(|(host, standing)| (host, text(standing))).collect())
}

fn standings(driver: &Driver, cluster: &Cluster) -> Result<BTreeMap<HostId, Standing>> {
    if driver.config.hosts_file.is_none() {
        return Ok(BTreeMap::new());
    }
    let Some(own) = &cluster.own else { return Ok(BTreeMap::new()) };
    let state = driver.store.read(|tx| tx.peer_state(&own.id))?;
    let gone = driver.store.read(|tx| tx.absent_hosts(Absence::Gone))?.into_keys();
    // What is recorded may be older than what is on this host.
    let is_recorded = !driver.peers.faults().contains_key(LIST);
    let standings = driver.peers.all().into_iter().map(|(host, peer)| {
        let has = is_recorded && peer.has.is_some() && peer.has == state;
        (host, peer.error.map_or(Ok(has), Err))
    });
    let refused = "its node left the swarm: refused until its Docker Engine is back";
    Ok(standings.chain(gone.map(|host| (host, Err(refused.to_owned())))).collect())
}

/// A tenant's addresses that other hosts announced and this one rejected, each with the reason.
pub(super) fn refused(driver: &Driver, tenant: &TenantId) -> Result<Vec<RefusedRemote>> {
    let claims = driver.store.read(|tx| remotes::claims(tx, tenant))?;
    let refused = claims.into_iter().filter_map(|(claim, refusal)| Some((claim, refusal?)));
    let row = |(PeerRemote { address, mac, host, .. }, refusal): (PeerRemote, Refusal)| RefusedRemote {
        address,
        mac,
        host,
        reason: refusal.word(),
        meaning: refusal.sentence(),
    };
    Ok(refused.map(row).collect())
}

/// The metrics, of up to `limit` hosts.
pub(super) fn collect(driver: &Driver, cluster: &Cluster, scrape: &mut Scrape, limit: usize) -> Result<()> {
    if driver.config.hosts_file.is_none() {
        return Ok(());
    }
    let mut states = BTreeMap::from([("in_step", 0), ("behind", 0), ("unreachable", 0)]);
    for standing in standings(driver, cluster)?.into_values() {
        let state = match standing {
            Ok(true) => "in_step",
            Ok(false) => "behind",
            Err(_) => "unreachable",
        };
        *states.entry(state).or_default() += 1;
    }
    let states = states.into_iter().map(|(state, count)| (vec![("state", state.to_owned())], f64::from(count)));
    scrape.gauge("ciao_exchange_hosts", "Other hosts, by whether they have this host's addresses", states);
    let end = driver.peers.certificate_end.load(Ordering::Relaxed);
    scrape.gauge(
        "ciao_exchange_certificate_end_timestamp_seconds",
        "When this host's certificate ends",
        (end > 0).then(|| (Vec::new(), end as f64)),
    );
    let mut lists = driver.store.read(|tx| tx.peer_lists())?;
    lists.retain(|list| cluster.others.contains_key(&list.host));
    lists.truncate(limit);
    let of = |list: &PeerList| vec![("host", list.host.to_string())];
    let addresses = lists.iter().map(|list| (of(list), f64::from(list.rows)));
    scrape.gauge("ciao_exchange_remotes", "Addresses that another host announces, gateways included", addresses);
    let generations = lists.iter().map(|list| (of(list), list.state.generation as f64));
    scrape.gauge("ciao_exchange_generation", "Generation of another host's list", generations);
    let heard = lists.iter().map(|list| (of(list), driver.store.by_host_clock(list.changed) as f64 / 1e3));
    scrape.gauge("ciao_exchange_list_timestamp_seconds", "When another host's list changed last", heard);
    let mut rejected: BTreeMap<_, u32> = Refusal::ALL.map(|refusal| (refusal.word(), 0)).into();
    for (.., refusal) in driver.fabric.tunnels.refused.all(&driver.store)?.iter() {
        *rejected.entry(refusal.word()).or_default() += 1;
    }
    let rejected = rejected.into_iter().map(|(reason, count)| (vec![("reason", reason.to_owned())], f64::from(count)));
    scrape.gauge("ciao_exchange_rejected", "Announcements of other hosts that are rejected now", rejected);
    let refused = driver.peers.refused().into_iter();
    scrape.counter(
        "ciao_exchange_refused",
        "Connections, messages and addresses of other hosts that were refused",
        refused.map(|(reason, count)| (vec![("reason", reason.to_owned())], count as f64)),
    );
    Ok(())
}

/// What to do about a fault of this host's own side.
fn remedy(what: &str) -> String {
    match what {
        CERTIFICATE => "renew the files of --exchange-cert and --exchange-key; --exchange-ca has their authority",
        "listener" => "give --exchange an address of this host and a port that no other program has",
        "file" => "correct the file of --exchange-peers; the former list holds until then",
        LIST => "free disk space; if the addresses are too many, move containers to another host",
        "own" => "add an address of this host to the file of --exchange-peers; with --tunnel LINK, one of that link",
        _ => "ciao-net reconcile --docker",
    }
    .to_owned()
}

/// What is not as it should be, each with its remedy.
pub(super) fn problems(driver: &Driver) -> Result<Vec<(String, String)>> {
    if driver.config.hosts_file.is_none() {
        return Ok(Vec::new());
    }
    let problem = |(what, fault)| match what {
        CERTIFICATE => (fault, remedy(what)),
        _ => (format!("no exchange with other hosts: {fault}"), remedy(what)),
    };
    let mut problems: Vec<_> = driver.peers.faults().into_iter().map(problem).collect();
    let gone = driver.store.read(|tx| tx.absent_hosts(Absence::Gone))?;
    for (host, standing) in standings(driver, &driver.fabric.tunnels.cluster()?)? {
        if let Err(why) = standing {
            let remedy = if gone.contains_key(&host) {
                "start its Docker Engine; if it runs, change the file of --exchange-peers or restart this host's; if it \
                 has left for good, remove it from the file"
                    .to_owned()
            } else {
                format!(
                    "on {host} ciao-net must run with --exchange and the same port, which its firewall accepts; each \
                     host is in the other's list, and trusts its authority (--exchange-ca)"
                )
            };
            problems.push((format!("host {host} does not get this host's addresses: {why}"), remedy));
        }
    }
    let long_ago = driver.store.now() - MOVE;
    let refused = driver.fabric.tunnels.refused.all(&driver.store)?;
    for of_tenant in refused.chunk_by(|(one, ..), (other, ..)| one == other) {
        let mut old = of_tenant.iter().filter(|(_, claim, _)| claim.told < long_ago);
        if let Some((tenant, claim, refusal)) = old.next() {
            let (host, address, why) = (&claim.host, claim.address, refusal.sentence());
            let others = old.count();
            let problem =
                format!("host {host} announced {address} of tenant {tenant}: rejected, {why} ({others} more)");
            problems.push((
                problem,
                format!(
                    "\"ciao-net remote show {tenant}\" has the reasons: give another address or network to what has it, \
                     here or on {host}"
                ),
            ));
        }
    }
    Ok(problems)
}
