// SPDX-License-Identifier: Apache-2.0
//! `/v1/networks`, `/v1/endpoints`, `/v1/ports`: what is recorded, in pages.

use std::net::IpAddr;
use std::sync::Arc;

use ciao_common::serve::routes::{Ask, Cursor, Failure, Limit, Route, page, words};
use ciao_common::serve::server::Reply;
use ciao_common::store::{ENDPOINTS, List, NETWORKS, PORTS};
use ciao_common::types::{
    Address, EndpointId, InstanceId, LinkName, MacAddr, Mtu, NetworkId, Subnet, TenantId, VnicId,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Driver;

/// Which networks.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworksQuery {
    /// Limit the list to this tenant.
    tenant: Option<TenantId>,
    /// The most items of the page.
    limit: Option<Limit>,
    /// The cursor of the page before.
    after: Option<Cursor>,
}

/// Which endpoints or ports.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointsQuery {
    /// Limit the list to this tenant.
    tenant: Option<TenantId>,
    /// Limit the list to this network, by Docker's whole ID.
    network: Option<NetworkId>,
    /// Limit the list to this instance.
    instance: Option<InstanceId>,
    /// The most items of the page.
    limit: Option<Limit>,
    /// The cursor of the page before.
    after: Option<Cursor>,
}

/// A network.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct NetworkItem {
    #[serde(rename(serialize = "id", deserialize = "network"))]
    #[schema(rename = "id")]
    id: NetworkId,
    tenant: Option<TenantId>,
    /// IPv4 first.
    #[serde(deserialize_with = "words")]
    subnets: Vec<Subnet>,
    #[serde(deserialize_with = "words")]
    #[schema(value_type = Vec<Address>)]
    gateways: Vec<IpAddr>,
    bridge: LinkName,
    /// The bridge's network namespace; `(host)`: the host's.
    namespace: String,
    /// `docker`; `other hosts`: Docker has it there alone, and this one routes to it.
    source: String,
    /// `on`, `port_security=off`, or that it is on a bridge of the host.
    isolation: String,
    /// What acts as the default gateway.
    egress: String,
    /// Ports of the host's own services that its tenant reaches: `5432/tcp`.
    #[serde(deserialize_with = "words")]
    host_access: Vec<String>,
    mtu: Option<Mtu>,
    /// How many endpoints it has.
    endpoints: u64,
    #[schema(format = DateTime)]
    created: String,
}

/// A container's attachment to a network.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct EndpointItem {
    #[serde(rename(serialize = "id", deserialize = "endpoint"))]
    #[schema(rename = "id")]
    id: EndpointId,
    network: NetworkId,
    tenant: Option<TenantId>,
    instance: Option<InstanceId>,
    #[schema(value_type = Option<Address>)]
    address: Option<IpAddr>,
    #[schema(value_type = Option<Address>)]
    address6: Option<IpAddr>,
    mac: Option<MacAddr>,
    /// The VNIC that it uses.
    vnic: Option<VnicId>,
    #[schema(format = DateTime)]
    created: String,
}

/// A published port.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct PortItem {
    tenant: Option<TenantId>,
    instance: Option<InstanceId>,
    network: NetworkId,
    endpoint: EndpointId,
    /// `tcp`, `udp` or `sctp`.
    protocol: String,
    /// Of the host; the unspecified address: all.
    #[schema(value_type = Address)]
    host_address: IpAddr,
    host_port: u16,
    /// Of the container.
    #[schema(value_type = Address)]
    address: IpAddr,
    container_port: u16,
}

pub(super) fn routes() -> Vec<Route<Arc<Driver>>> {
    vec![
        Route::get("/v1/networks", "listNetworks", "List Docker networks of driver ciao-net.", networks)
            .query::<NetworksQuery>()
            .page::<NetworkItem>(),
        Route::get("/v1/endpoints", "listEndpoints", "List containers' attachments to networks.", endpoints)
            .query::<EndpointsQuery>()
            .page::<EndpointItem>(),
        Route::get("/v1/ports", "listPorts", "List published ports.", ports)
            .query::<EndpointsQuery>()
            .page::<PortItem>(),
    ]
}

fn networks(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let NetworksQuery { tenant, limit, after } = ask.query()?;
    let tenant = tenant.map(|tenant| tenant.to_string());
    page::<NetworkItem>(&driver.store, NETWORKS, [("tenant", tenant)], (limit, after))
}

fn endpoints(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    of_endpoints::<EndpointItem>(driver, ENDPOINTS, ask)
}

fn ports(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    of_endpoints::<PortItem>(driver, PORTS, ask)
}

fn of_endpoints<T>(driver: &Driver, list: List, ask: &Ask<'_>) -> Result<Reply, Failure>
where
    T: Serialize + serde::de::DeserializeOwned,
{
    let EndpointsQuery { tenant, network, instance, limit, after } = ask.query()?;
    let filters = [
        ("tenant", tenant.map(|tenant| tenant.to_string())),
        ("network", network.map(|network| network.to_string())),
        ("instance", instance.map(|instance| instance.to_string())),
    ];
    page::<T>(&driver.store, list, filters, (limit, after))
}
