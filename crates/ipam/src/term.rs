// SPDX-License-Identifier: Apache-2.0
//! A swarm's leader: what it requests again after it was chosen, and what it does not.
//!
//! swarmkit keeps what was allocated in raft. A new leader requests all of that again before anything new, explicitly
//! and with the serial option, which the first request for a pool does not have. So such a request for a set of an
//! earlier leadership begins a restore: addresses of before are granted to whoever names them, and to nobody else.
//!
//! A plugin that is enabled again counts as a leadership too, without anything being requested again. A user's own
//! serial option then looks like a restore. So an address of before is given to another one only where the pool is full
//! or, [`SETTLED`] later, if a lease was requested again, as only a new leader does; and a release of one, which only
//! an old leader can name with its pool, takes everything back.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use ciao_common::api::ipam::Capabilities;
use ciao_common::store::{AddressKind, Answer, Pool, PoolSet, Tx};
use ciao_common::types::Scope;

use crate::choice::{Wanted, wanted_set};
use crate::lease::earlier;
use crate::options::PoolOptions;
use crate::vacancy::Hints;
use crate::{Config, Ipam};

/// How long a leader may take to request everything again.
const SETTLED: Duration = Duration::from_secs(600);

impl Ipam {
    /// `IpamDriver.GetCapabilities`: the engine asks once when it starts, and once when it becomes a swarm's leader.
    pub fn capabilities(&self) -> Answer<Capabilities> {
        self.store.begin(|tx| {
            tx.count_leadership()?;
            Ok(Capabilities { requires_mac_address: false, requires_request_replay: false })
        })
    }

    /// Ends restores that have had their time: frees what the leader did not request again, and sets that only earlier
    /// leaders knew. Says how many addresses and sets went.
    pub(crate) fn reclaim_former(&self) -> Result<usize> {
        let before = earlier(SETTLED);
        let found = self.store.read(|tx| Ok((tx.sets_restored_before(before)?, tx.sets_of_former_leaders()?)))?;
        if found.0.is_empty() && found.1.is_empty() {
            return Ok(0);
        }
        self.store.write(move |tx| {
            let mut count = 0;
            for set in tx.sets_restored_before(before)? {
                count += finish(tx, &set)?;
            }
            for set in tx.sets_of_former_leaders()? {
                log::info!("global pool {} was not requested since an earlier leadership: released", set.subnet);
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
        log::info!("address {address} of {} was not requested again by the swarm's leader: released", set.subnet);
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

/// The set that a swarm's leader asks for.
pub(crate) fn set(
    tx: &Tx<'_>,
    config: &Config,
    hints: &Hints,
    options: &PoolOptions,
    wanted: Wanted,
) -> Result<PoolSet> {
    let tenant = options.tenant.as_ref();
    let former = match wanted {
        Wanted::Exactly(subnet) if options.serial => tx.set_of_former_term(tenant, subnet)?,
        _ => None,
    };
    let (set, is_new) = match former {
        Some(set) => {
            log::info!("a new leader of the swarm restores pool {}", set.subnet);
            tx.begin_restore(&set)?;
            (set, false)
        }
        None => wanted_set(tx, config, hints, Scope::Global, tenant, wanted)?,
    };
    tx.ask_for_set(&set, is_new)?;
    Ok(set)
}

/// The pool that a release is to take a reference from; `None`: it stays as it is, because an earlier leadership's
/// networks may be on it.
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
            log::info!("pool {} of term {} is kept: earlier networks may be on it", pool.set.subnet, term.term);
            tx.drop_pool_refs(&pool, 1).map(|()| None)
        }
        _ => Ok(Some(pool)),
    }
}

/// Grants an address of an earlier leadership to whoever names it. `false`: it is of this one.
pub(crate) fn grant_again(tx: &Tx<'_>, pool: &Pool, address: IpAddr, kind: AddressKind) -> Result<bool> {
    let Some(held) = tx.address(&pool.set, address)?.filter(|held| held.term < pool.term) else { return Ok(false) };
    match (held.kind, kind) {
        // Counted on: a former network on the set may live.
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

/// Frees one address of an earlier leadership, where a pool is full. `false`: there is none.
pub(crate) fn make_room(tx: &Tx<'_>, pool: &Pool) -> Result<bool> {
    let within = |address: &IpAddr| pool.sub_pool.is_none_or(|range| range.contains(*address));
    let leases = tx.former_of_set(&pool.set)?.into_iter().filter(within);
    for address in leases {
        if tx.address(&pool.set, address)?.is_some_and(|held| held.kind == AddressKind::Lease) {
            log::info!("pool {} is full: {address}, of an earlier leadership, is released", pool.set.subnet);
            release(tx, &pool.set, address)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a release of an address tells: only the leader that was granted it names it together with its pool, so if it is
/// of an earlier leadership, that one goes on.
pub(crate) fn heed_release(tx: &Tx<'_>, pool: &Pool, address: IpAddr) -> Result<()> {
    let former = tx.address(&pool.set, address)?.is_some_and(|held| held.term < pool.term);
    if former && pool.restoring {
        log::info!("pool {}: its leader goes on, what was granted before is kept", pool.set.subnet);
        tx.cancel_restore(&pool.set)?;
    }
    Ok(())
}
