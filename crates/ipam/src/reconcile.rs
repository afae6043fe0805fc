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
use ciao_common::store::{Pool, Scope, Store, Tx};
use ciao_common::types::{Subnet, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::options::PoolOptions;

/// The network of a younger reference may still be in creation: `docker network create` makes several calls, each of
/// which the engine may retry for some 15 s.
const SETTLED: Duration = Duration::from_secs(60);

/// References since this time may belong to networks that are missing in a list requested from Docker `age` ago.
pub fn unsettled_since(store: &Store, age: Duration) -> i64 {
    store.ago(SETTLED.saturating_add(age))
}

/// What a command asks of the running daemon.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ReconcileRequest)]
pub struct Request {
    /// The database that the command is for.
    #[schema(value_type = String, example = "/var/lib/ciao/ciao.db")]
    pub db: PathBuf,
    /// Whether to return the corrections without making them.
    pub dry_run: bool,
    /// Milliseconds since Docker's list was requested, or more.
    pub age: u64,
    /// The number of Docker's networks on each pool.
    #[schema(value_type = Vec<NetworksOnPool>)]
    pub networks: Vec<(PoolKey, i64)>,
}

/// Makes the corrections of a request.
pub fn run(store: &Store, request: Request) -> Result<Vec<Repair>> {
    let unsettled = unsettled_since(store, Duration::from_millis(request.age));
    release_unused(store, request.networks.into_iter().collect(), unsettled, request.dry_run)
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

/// A pool as given by a Docker network: tenant, subnet, sub-pool, serial mode.
pub type PoolKey = (Option<TenantId>, Subnet, Option<Subnet>, bool);

/// The schema of a pool and the number of networks on it.
struct NetworksOnPool;

impl PartialSchema for NetworksOnPool {
    fn schema() -> RefOr<Schema> {
        let inline = |schema| match schema {
            RefOr::T(schema) => schema,
            RefOr::Ref(_) => Schema::default(),
        };
        let of = |kind| Schema::from(ObjectBuilder::new().schema_type(kind));
        let or_null = |schema| Schema::from(OneOfBuilder::new().item(inline(schema)).item(of(Type::Null)));
        let tuple = |parts: Vec<Schema>| {
            let length = Some(parts.len());
            let array =
                ArrayBuilder::new().prefix_items(parts).items(ObjectBuilder::new().schema_type(SchemaType::AnyValue));
            array.min_items(length).max_items(length)
        };
        let key = [or_null(TenantId::schema()), inline(Subnet::schema()), or_null(Subnet::schema()), of(Type::Boolean)];
        let pair = tuple(vec![tuple(key.into()).into(), of(Type::Integer)]);
        pair.description(Some("Tenant, subnet, range of dynamic addresses, serial mode; number of networks.")).into()
    }
}

impl ToSchema for NetworksOnPool {}

/// The number of Docker's networks on each pool, from the response of `GET /networks`.
///
/// # Errors
/// The response cannot be parsed completely.
pub fn networks_by_pool(networks: &Value) -> Result<BTreeMap<PoolKey, i64>> {
    let mut counts = BTreeMap::new();
    for network in networks.as_array().context("Docker's list of networks is not an array")? {
        let ipam = &network["IPAM"];
        if ipam["Driver"] != "ciao-ipam" {
            continue;
        }
        let options = serde_json::from_value::<Option<_>>(ipam["Options"].clone())?.unwrap_or_default();
        let options = PoolOptions::parse(&options)?;
        for config in ipam["Config"].as_array().into_iter().flatten() {
            let subnet = config["Subnet"].as_str().context("a network has no subnet")?.parse()?;
            let range = config["IPRange"].as_str().filter(|text| !text.is_empty());
            let range = range.map(str::parse).transpose()?;
            *counts.entry((options.tenant.clone(), subnet, range, options.serial)).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Releases the references without a network of Docker. With `dry`, only returns them. Pools requested since
/// `unsettled`, which is [`unsettled_since`] before Docker's list was requested, are left alone.
pub fn release_unused(store: &Store, counts: BTreeMap<PoolKey, i64>, unsettled: i64, dry: bool) -> Result<Vec<Repair>> {
    store.write(move |tx| {
        let mut repairs = Vec::new();
        for pool in tx.pools_requested_before(unsettled)?.into_iter().filter(|pool| pool.set.scope == Scope::Local) {
            let used = used(tx, &counts, &pool)?;
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
    })
}

/// The number of Docker's networks on a pool. If a network of another driver may be on one of several pools without
/// tenant and with the same subnet, none of them is released.
fn used(tx: &Tx<'_>, counts: &BTreeMap<PoolKey, i64>, pool: &Pool) -> Result<i64> {
    let key = (pool.set.tenant.clone(), pool.set.subnet, pool.sub_pool, pool.serial);
    let networks = counts.get(&key).copied().unwrap_or(0);
    if pool.set.tenant.is_some() {
        // Docker does not list the tenant of a network that was passed to ciao-net only.
        return Ok(networks.max(tx.networks_on_set(pool.set.id)?));
    }
    if networks == 0 {
        return Ok(0);
    }
    let paired = tx.own_sets_with_network(pool.set.subnet)?;
    let others = networks > i64::try_from(paired.len())?;
    Ok(if others || paired.contains(&pool.set.id) { pool.refs } else { 0 })
}
