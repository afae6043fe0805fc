// SPDX-License-Identifier: Apache-2.0
//! `/v1/pools` and `/v1/leases`: what is recorded, in pages.

use std::net::IpAddr;
use std::sync::Arc;

use ciao_common::serve::routes::{Ask, Cursor, Failure, Limit, page, words};
use ciao_common::serve::server::Reply;
use ciao_common::store::{LEASES, POOLS, Store};
use ciao_common::types::{Address, EndpointId, InstanceId, NetworkId, Subnet, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which pools.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolsQuery {
    /// Limit the list to this tenant.
    tenant: Option<TenantId>,
    /// Limit the list to this subnet.
    subnet: Option<Subnet>,
    /// The most items of the page.
    limit: Option<Limit>,
    /// The cursor of the page before.
    after: Option<Cursor>,
}

/// Which leases.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeasesQuery {
    /// Limit the list to this tenant.
    tenant: Option<TenantId>,
    /// Limit the list to this subnet.
    subnet: Option<Subnet>,
    /// Limit the list to this network, by Docker's whole ID.
    network: Option<NetworkId>,
    /// Limit the list to this state.
    state: Option<State>,
    /// The most items of the page.
    limit: Option<Limit>,
    /// The cursor of the page before.
    after: Option<Cursor>,
}

/// Who has an address: a `gateway`, an auxiliary address (`aux`), no endpoint yet (`pending`), an endpoint of ciao-net
/// (`bound`), one of another driver (`granted`), a launcher's VNIC without a container (`reserved`), or whoever had it
/// under an earlier leader of a swarm (`former`).
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[schema(as = LeaseState)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Gateway,
    Aux,
    Pending,
    Bound,
    Granted,
    Reserved,
    Former,
}

/// A pool that Docker requested.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct PoolItem {
    /// Docker's PoolID.
    #[serde(rename(serialize = "id", deserialize = "pool_id"))]
    #[schema(rename = "id")]
    id: String,
    tenant: Option<TenantId>,
    subnet: Subnet,
    /// The range of dynamic addresses; null: the whole subnet.
    sub_pool: Option<Subnet>,
    /// Docker's address space: `local` or `global`.
    space: String,
    /// The networks of ciao-net on its subnet.
    #[serde(deserialize_with = "words")]
    networks: Vec<NetworkId>,
    /// How often Docker requested it and did not release it.
    refs: u64,
    /// How many of its addresses are granted.
    leases: u64,
    #[schema(format = DateTime)]
    created: String,
}

/// An address that is granted or reserved.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct LeaseItem {
    tenant: Option<TenantId>,
    subnet: Subnet,
    #[schema(value_type = Address)]
    address: IpAddr,
    state: State,
    instance: Option<InstanceId>,
    endpoint: Option<EndpointId>,
    network: Option<NetworkId>,
    /// Docker's address space: `local` or `global`.
    space: String,
    #[schema(format = DateTime)]
    since: String,
}

pub(crate) fn pools(store: &Arc<Store>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let PoolsQuery { tenant, subnet, limit, after } = ask.query()?;
    let filters = [("tenant", tenant.map(|tenant| tenant.to_string())), ("subnet", subnet.map(|s| s.to_string()))];
    page::<PoolItem>(store, POOLS, filters, (limit, after))
}

pub(crate) fn leases(store: &Arc<Store>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let LeasesQuery { tenant, subnet, network, state, limit, after } = ask.query()?;
    let word = |state: State| serde_json::to_value(state).ok()?.as_str().map(str::to_owned);
    let filters = [
        ("tenant", tenant.map(|tenant| tenant.to_string())),
        ("subnet", subnet.map(|subnet| subnet.to_string())),
        ("network", network.map(|network| network.to_string())),
        ("state", state.and_then(word)),
    ];
    page::<LeaseItem>(store, LEASES, filters, (limit, after))
}
