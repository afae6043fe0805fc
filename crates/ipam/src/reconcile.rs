// SPDX-License-Identifier: Apache-2.0
//! References of pools put right by Docker's own list of networks.
//!
//! The engine forgets a pool when the reply to `RequestPool` is lost, and when a `ReleasePool` fails: its reference would
//! stay for good. Only Docker knows which pools its networks are on, and a plugin must not ask it while it waits for the
//! plugin's answer; so an administrator's command does.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use ciao_common::store::{Pool, Scope, Store, Tx};
use ciao_common::types::{Subnet, TenantId};
use serde::Serialize;
use serde_json::Value;

use crate::lease::earlier;
use crate::options::PoolOptions;

/// The network of a reference that is younger than this may be under way: `docker network create` makes several calls,
/// each of which the engine may try again for some 15 s.
const SETTLED: Duration = Duration::from_secs(60);

/// From when on a reference may be that of a network which a list of Docker's that is asked for now does not have.
#[must_use]
pub fn unsettled_since() -> i64 {
    earlier(SETTLED)
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
pub struct Repair {
    /// `release`.
    pub action: &'static str,
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// A pool as a Docker network names it: tenant, subnet, sub-pool, serial mode.
type Place = (Option<TenantId>, Subnet, Option<Subnet>, bool);

/// How many of Docker's networks are on each pool, by its `GET /networks`.
///
/// # Errors
/// Docker's answer cannot be read: better no repair than a wrong one.
pub fn places(networks: &Value) -> Result<BTreeMap<Place, i64>> {
    let mut places = BTreeMap::new();
    for network in networks.as_array().context("Docker's list of networks is no list")? {
        let ipam = &network["IPAM"];
        if ipam["Driver"] != "ciao-ipam" {
            continue;
        }
        let options = serde_json::from_value::<Option<_>>(ipam["Options"].clone())?.unwrap_or_default();
        let options = PoolOptions::parse(&options)?;
        for config in ipam["Config"].as_array().into_iter().flatten() {
            let subnet = config["Subnet"].as_str().context("a network's subnet is not there")?.parse()?;
            let range = config["IPRange"].as_str().filter(|text| !text.is_empty());
            let range = range.map(str::parse).transpose()?;
            *places.entry((options.tenant.clone(), subnet, range, options.serial)).or_default() += 1;
        }
    }
    Ok(places)
}

/// Releases the references that no network of Docker's has. With `dry`, only says which. Pools that were asked for since
/// `unsettled`, which is [`unsettled_since`] from before Docker's list, are left alone: nobody knows which reference is
/// the new one.
///
/// # Errors
/// The disk's.
pub fn release_unused(store: &Store, places: BTreeMap<Place, i64>, unsettled: i64, dry: bool) -> Result<Vec<Repair>> {
    store.write(move |tx| {
        let mut repairs = Vec::new();
        for pool in tx.pools_requested_before(unsettled)?.into_iter().filter(|pool| pool.set.scope == Scope::Local) {
            let used = used(tx, &places, &pool)?;
            if used >= pool.refs {
                continue;
            }
            let whose = pool.set.tenant.as_ref().map_or_else(|| "no tenant".to_owned(), ToString::to_string);
            repairs.push(Repair {
                action: "release",
                what: format!("pool {} of {whose}, {} times", pool.set.subnet, pool.refs - used),
                why: format!("Docker has {used} networks on it, and {} references are recorded", pool.refs),
            });
            match (dry, used) {
                (true, _) => {}
                (false, 0) => tx.delete_pool(&pool).map(drop)?,
                (false, used) => tx.drop_pool_refs(&pool, pool.refs - used)?,
            }
        }
        Ok(repairs)
    })
}

/// How many of Docker's networks are on a pool. One without tenant has a single reference; which of several with one
/// subnet a network of another driver is on, nobody can tell, so none of them is released then.
fn used(tx: &Tx<'_>, places: &BTreeMap<Place, i64>, pool: &Pool) -> Result<i64> {
    let place = (pool.set.tenant.clone(), pool.set.subnet, pool.sub_pool, pool.serial);
    let networks = places.get(&place).copied().unwrap_or(0);
    if pool.set.tenant.is_some() {
        // Docker does not show the tenant of a network that named it to ciao-net only.
        return Ok(networks.max(tx.networks_on_set(pool.set.id)?));
    }
    if networks == 0 {
        return Ok(0);
    }
    let paired = tx.own_sets_with_network(pool.set.subnet)?;
    let others = networks > i64::try_from(paired.len())?;
    Ok(if others || paired.contains(&pool.set.id) { pool.refs } else { 0 })
}
