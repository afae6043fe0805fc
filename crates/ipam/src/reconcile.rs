// SPDX-License-Identifier: Apache-2.0
//! Correction of the pools' reference counts by Docker's list of networks.
//!
//! The engine forgets a pool when the reply to `RequestPool` is lost, and when a `ReleasePool` fails: the reference
//! would stay forever. Only Docker's list shows this, and a plugin must not request it while dockerd waits for the
//! plugin; so this is a command of the administrator.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use ciao_common::api::go;
use ciao_common::api::listing::{ListedNetwork, PoolKey, is_plugin};
use ciao_common::store::{Pool, Scope, Store, Tx};
use ciao_common::types::{NetworkId, Subnet, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::options::PoolOptions;

/// The network of a younger reference may still be in creation: `docker network create` makes several calls, each of
/// which the engine may retry for some 15 s.
const SETTLED: Duration = Duration::from_secs(60);

/// What a command asks of the running daemon.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ReconcileRequest)]
pub struct Request {
    /// The database that the command is for.
    #[schema(value_type = String, example = "/var/lib/ciao/ciao.db")]
    pub db: PathBuf,
    /// Whether to return the corrections without making them.
    pub dry_run: bool,
    /// Accept a list of another engine, or one with none of the recorded pools.
    #[serde(default)]
    pub force: bool,
    /// Milliseconds since Docker's list was requested, or more.
    pub age: u64,
    /// The engine's id, as its `GET /info` has it.
    #[serde(default)]
    pub engine: Option<String>,
    /// The pools of Docker's networks with this IPAM driver, one for each subnet.
    #[serde(deserialize_with = "go::objects")]
    pub networks: Vec<ListedPool>,
}

/// A pool of a Docker network.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedPool {
    /// The network, of any driver.
    pub network: NetworkId,
    /// Option `tenant` of its IPAM driver.
    pub tenant: Option<TenantId>,
    /// The subnet.
    pub subnet: Subnet,
    /// The range of dynamic addresses, if not the whole subnet.
    pub ip_range: Option<Subnet>,
    /// Whether dynamic addresses are allocated in ascending order.
    pub serial: bool,
}

/// A correction, made or planned.
#[derive(Debug, Serialize, ToSchema)]
pub struct Repair {
    /// `release`.
    pub action: &'static str,
    /// The subject.
    pub what: String,
    /// The reason.
    pub why: String,
}

/// The pools of Docker's networks, from the response of `GET /networks`.
///
/// # Errors
/// The response cannot be parsed completely.
pub fn listed_pools(networks: &Value) -> Result<Vec<ListedPool>> {
    let mut pools = Vec::new();
    for network in networks.as_array().context("Docker's list of networks is not an array")? {
        let ipam = &network["IPAM"];
        if !ipam["Driver"].as_str().is_some_and(|driver| is_plugin(driver, "ciao-ipam")) {
            continue;
        }
        let listed: ListedNetwork =
            serde_json::from_value(network.clone()).context("read Docker's list of networks")?;
        let options = serde_json::from_value::<Option<_>>(ipam["Options"].clone())?.unwrap_or_default();
        let PoolOptions { tenant, serial } = PoolOptions::parse(&options)?;
        pools.extend(listed.ipam.config.iter().map(|config| {
            let (network, tenant) = (listed.id.clone(), tenant.clone());
            ListedPool { network, tenant, subnet: config.subnet, ip_range: config.ip_range, serial }
        }));
    }
    Ok(pools)
}

/// Releases the references without a network of Docker, unless it is a dry run. Pools requested less than [`SETTLED`]
/// before Docker's list are left alone.
///
/// # Errors
/// The list is strange, and nothing was done: it is another engine's, or has none of the recorded pools. The disk's.
pub fn run(store: &Store, request: Request) -> Result<Vec<Repair>> {
    let unsettled = store.ago(SETTLED.saturating_add(Duration::from_millis(request.age)));
    store.write(move |tx| {
        let mut pools = tx.pools_requested_before(unsettled)?;
        pools.retain(|pool| pool.set.scope == Scope::Local);
        let is_listed = |pool: &Pool| request.networks.iter().any(|listed| listed.subnet == pool.set.subnet);
        let none = (!pools.is_empty() && !pools.iter().any(is_listed))
            .then(|| format!("Docker's list has none of the {} recorded pools", pools.len()));
        tx.check_list(request.engine.as_deref(), none, request.force)?;
        if let (Some(engine), false) = (&request.engine, request.dry_run) {
            tx.set_engine(engine)?;
        }
        release_unused(tx, pools, request)
    })
}

fn release_unused(tx: &Tx<'_>, pools: Vec<Pool>, request: Request) -> Result<Vec<Repair>> {
    let dry = request.dry_run;
    let mut unrecorded = BTreeMap::<PoolKey, i64>::new();
    for listed in request.networks {
        if !is_recorded(tx, &listed)? {
            *unrecorded.entry((listed.tenant, listed.subnet, listed.ip_range, listed.serial)).or_default() += 1;
        }
    }
    let mut repairs = Vec::new();
    for pool in pools {
        let used = used(tx, &unrecorded, &pool)?;
        if used >= pool.refs {
            continue;
        }
        let tenant = pool.set.tenant.as_ref().map_or_else(|| "no tenant".to_owned(), ToString::to_string);
        repairs.push(Repair {
            action: "release",
            what: format!("pool {} of {tenant}, {} times", pool.set.subnet, pool.refs - used),
            why: format!("Docker has {used} networks on it, but its reference count is {}", pool.refs),
        });
        match (dry, used) {
            (true, _) => {}
            (false, 0) => tx.delete_pool(&pool).map(drop)?,
            (false, used) => tx.drop_pool_refs(&pool, pool.refs - used)?,
        }
    }
    Ok(repairs)
}

/// Whether ciao-net has recorded which pool of this subnet the network is on.
fn is_recorded(tx: &Tx<'_>, listed: &ListedPool) -> Result<bool> {
    let network = tx.network(&listed.network)?;
    let subnet = network.and_then(|network| network.subnets.into_iter().find(|subnet| subnet.subnet == listed.subnet));
    let pool = subnet.and_then(|subnet| subnet.pool);
    Ok(pool.map(|pool| tx.pool_by_id(&pool)).transpose()?.flatten().is_some())
}

/// The number of networks on a pool: those that ciao-net has recorded on its set, whatever Docker lists, since
/// `ciao-net reconcile` decides on them; and those of other drivers. Which of several pools without tenant and with the
/// same subnet one of the latter is on is not known: none of them is released.
fn used(tx: &Tx<'_>, unrecorded: &BTreeMap<PoolKey, i64>, pool: &Pool) -> Result<i64> {
    let key = (pool.set.tenant.clone(), pool.set.subnet, pool.sub_pool, pool.serial);
    let networks = tx.networks_on_set(pool.set.id)? + unrecorded.get(&key).copied().unwrap_or(0);
    Ok(if pool.set.tenant.is_none() && networks > 0 { pool.refs } else { networks })
}
