// SPDX-License-Identifier: Apache-2.0
//! Requests of a swarm's leader, including those repeated by a new one.
//!
//! swarmkit stores its allocations in raft. A new leader requests all of them again before anything new, explicitly and
//! with the serial option, which the first request for a pool does not have. So such a request for a set of an earlier
//! leadership begins a restore: former addresses are granted only to explicit requests.
//!
//! Enabling a plugin again also counts as a leadership, without repeated requests, and a user's serial option then
//! looks like a restore. So a restore begins only within [`BEGUN`] of the leadership, or of another restore under it: a
//! new leader's requests come at once (measured: 20 ms). And a former address is granted to another request only if the
//! pool is full, and [`SETTLED`] has passed or the leader has requested a lease again, which only a new one does; once
//! both are so, all former addresses are released. Three requests cancel the restore: the release of a former address
//! together with its pool, which only the old leader can send; a first one for any gateway, where a new leader names
//! it; and one for a lease before any gateway, because a new leader requests networks first.
//!
//! A plugin that is started in the middle of a restore counts one more leadership, and the rest of the requests come
//! under that. So a pool requested within [`BEGUN`] before keeps its references, a set without a tenant is not the next
//! network's, and no set is deleted that was requested within [`SETTLED`] before another one's restore.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use ciao_common::api::ipam::Capabilities;
use ciao_common::store::{AddressKind, AddressRecord, Pool, PoolSet, Tx};
use ciao_common::types::Scope;

use crate::choice::{SubnetRequest, requested_set};
use crate::options::PoolOptions;
use crate::vacancy::Hints;
use crate::{Config, Ipam};

/// Time for a new leader to begin with the first pool, and with each further one.
const BEGUN: Duration = Duration::from_secs(60);
/// Time for a leader to request everything again.
const SETTLED: Duration = Duration::from_secs(600);

impl Ipam {
    /// `IpamDriver.GetCapabilities`: called when the engine starts, and when it becomes a swarm's leader. Answered on a
    /// full disk too; the leadership is then recorded with the first request for a global pool.
    pub fn capabilities(&self) -> impl Future<Output = Result<Capabilities>> + Send + use<> {
        let leadership = self.leadership.fetch_add(1, Ordering::AcqRel) + 1;
        let recorded = self.store.begin(move |tx| tx.raise_leadership(leadership));
        async move {
            if let Err(error) = recorded.await {
                log::warn!("record that the engine started: {error:#}");
            }
            Ok(Capabilities { requires_mac_address: false, requires_request_replay: false })
        }
    }

    /// Ends restores after [`SETTLED`]: releases the addresses and sets that the leader did not request again. Returns
    /// their number.
    pub(crate) fn reclaim_former(&self) -> Result<usize> {
        let before = self.store.ago(SETTLED);
        let found =
            self.store.read(|tx| Ok((tx.sets_restored_before(before)?, tx.sets_of_former_leaders(SETTLED)?)))?;
        if found.0.is_empty() && found.1.is_empty() {
            return Ok(0);
        }
        self.store.write(move |tx| {
            let mut count = 0;
            for set in tx.sets_restored_before(before)? {
                count += finish(tx, &set)?;
            }
            for set in tx.sets_of_former_leaders(SETTLED)? {
                log::info!("released global pool {}: not requested since an earlier leadership", set.subnet);
                for pool in tx.pools_of_set(&set)? {
                    tx.delete_pool(&pool)?;
                }
                count += 1;
            }
            Ok(count)
        })
    }
}

fn finish(tx: &Tx<'_>, set: &PoolSet) -> Result<usize> {
    let former = tx.former_of_set(set)?;
    for address in &former {
        log::info!("released address {address} of {}: not requested again by the swarm's leader", set.subnet);
        release(tx, set, *address)?;
    }
    tx.finish_restore(set)?;
    for pool in tx.pools_of_set(set)?.iter().filter(|pool| pool.refs == 0) {
        tx.delete_pool(pool)?;
    }
    Ok(former.len())
}

fn release(tx: &Tx<'_>, set: &PoolSet, address: IpAddr) -> Result<()> {
    tx.delete_address(set, address)?;
    tx.give(set, address)
}

/// The set requested by a swarm's leader.
pub(crate) fn set(
    tx: &Tx<'_>,
    config: &Config,
    hints: &Hints,
    options: &PoolOptions,
    request: SubnetRequest,
) -> Result<PoolSet> {
    let tenant = options.tenant.as_ref();
    let former = match request {
        SubnetRequest::Exactly(subnet) if options.serial && tx.is_restoring_since(tx.ago(BEGUN))? => {
            tx.set_of_former_term(tenant, subnet, tx.ago(BEGUN))?
        }
        _ => None,
    };
    let (set, is_new) = match former {
        Some(set) => {
            log::info!("a new leader of the swarm restores pool {}", set.subnet);
            tx.begin_restore(&set, tx.ago(BEGUN))?;
            (set, false)
        }
        None => requested_set(tx, config, hints, Scope::Global, tenant, request)?,
    };
    tx.record_set_request(&set, is_new)?;
    Ok(set)
}

/// The pool to release a reference of; `None`: none, because networks of an earlier leadership may be on it.
pub(crate) fn to_release(tx: &Tx<'_>, pool: Pool) -> Result<Option<Pool>> {
    let Some(term) = tx.term_of(&pool.set)?.filter(|term| term.restoring.is_some() && !term.confirmed) else {
        return Ok(Some(pool));
    };
    match pool.refs {
        0 => {
            tx.cancel_restore(&pool.set)?;
            tx.pool_by_id(&pool.pool_id)
        }
        1 if !tx.former_of_set(&pool.set)?.is_empty() => {
            log::info!(
                "pool {} of leadership {} is kept: networks of earlier ones may be on it",
                pool.set.subnet,
                term.term
            );
            tx.drop_pool_refs(&pool, 1).map(|()| None)
        }
        _ => Ok(Some(pool)),
    }
}

/// Grants an address of an earlier leadership to an explicit request. `false`: it is not of an earlier one.
pub(crate) fn grant_again(tx: &Tx<'_>, pool: &Pool, address: IpAddr, kind: AddressKind) -> Result<bool> {
    let Some(held) = tx.address(&pool.set, address)?.filter(|held| held.term < pool.term) else { return Ok(false) };
    match (held.kind, kind) {
        // One more reference: a former network on the set may still exist.
        (AddressKind::Gateway, AddressKind::Gateway) => tx.grant(pool, address, kind)?,
        (before, _) => {
            tx.regrant(pool, address, kind)?;
            if before == kind {
                tx.confirm_restore(&pool.set)?;
            }
        }
    }
    Ok(true)
}

/// Releases one address of an earlier leadership, for a full pool. `false`: there is none, or the leader may not have
/// changed.
pub(crate) fn make_room(tx: &Tx<'_>, pool: &Pool) -> Result<bool> {
    if !tx.has_new_leader(&pool.set, tx.ago(SETTLED))? {
        return Ok(false);
    }
    let within = |address: &IpAddr| pool.sub_pool.is_none_or(|range| range.contains(*address));
    let leases = tx.former_of_set(&pool.set)?.into_iter().filter(within);
    for address in leases {
        if tx.address(&pool.set, address)?.is_some_and(|held| held.kind == AddressKind::Lease) {
            log::info!("pool {} is full: released {address} of an earlier leadership", pool.set.subnet);
            release(tx, &pool.set, address)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Cancels a restore in which no gateway was named yet, at a request for any gateway or for a lease: a new leader names
/// the gateway of each network before.
pub(crate) fn check_gateway(tx: &Tx<'_>, pool: &Pool) -> Result<()> {
    if pool.restoring && !tx.has_gateway_of_term(&pool.set)? {
        cancel(tx, pool)?;
    }
    Ok(())
}

/// Cancels a restore if an address of an earlier leadership is released: only the leader that was granted it can name
/// it together with its pool, so the leader did not change.
pub(crate) fn check_release(tx: &Tx<'_>, pool: &Pool, held: &AddressRecord) -> Result<()> {
    if pool.restoring && held.term < pool.term { cancel(tx, pool) } else { Ok(()) }
}

fn cancel(tx: &Tx<'_>, pool: &Pool) -> Result<()> {
    tx.guard()?;
    log::info!("pool {}: the swarm's leader did not change, its addresses are kept", pool.set.subnet);
    tx.cancel_restore(&pool.set)
}
