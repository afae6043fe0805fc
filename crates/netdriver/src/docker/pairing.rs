//! Which of ciao-ipam's sets of addresses a network is on.
//!
//! Docker gives the two drivers no common id. A tenant's set is found by tenant and subnet. A set without tenant is
//! found by time: it is the newest one with that subnet and gateway that no network is on yet, because the engine asks
//! for the pool right before it makes the network. Two networks made at the same moment may so be paired crosswise;
//! both sets are empty then, and the first endpoint, whose address was granted in one of them alone, sets it right.

use std::net::IpAddr;

use anyhow::{Result, bail};
use ciao_common::api::network::IpamData;
use ciao_common::store::{Network, Scope, Tx};
use ciao_common::types::TenantId;

use crate::docker::options::NetworkOptions;

/// The set of one subnet of a new network; `None`: another IPAM driver's.
///
/// # Errors
/// The tenant was told to one of the two drivers only.
pub(crate) fn find_set(
    tx: &Tx<'_>,
    options: &NetworkOptions,
    tenant: Option<&TenantId>,
    data: &IpamData,
) -> Result<Option<i64>> {
    // Other IPAM drivers call their address spaces otherwise: Docker's own is "LocalDefault".
    let Ok(scope) = data.address_space.parse::<Scope>() else { return Ok(None) };
    let subnet = data.pool;
    if let Some(tenant) = tenant
        && let Some(set) = tx.pool_set_of(scope, tenant, subnet)?
    {
        return Ok(Some(set.id));
    }
    let free = tx.pool_sets_without_network(scope, subnet)?;
    let gateway = data.gateway.map(|cidr| cidr.ip());
    let mut own = free.iter().filter(|set| set.tenant.is_none());
    let paired =
        own.find(|set| gateway.is_none_or(|gateway| tx.address(set, gateway).is_ok_and(|held| held.is_some())));
    match (paired, &options.tenant) {
        (Some(_), Some(tenant)) => bail!(
            "ciao-ipam holds subnet {subnet}, but not for tenant {tenant}: give --ipam-opt tenant={tenant} with -o tenant={tenant}"
        ),
        (Some(set), None) => Ok(Some(set.id)),
        (None, _) => match free.iter().find_map(|set| set.tenant.as_ref()) {
            Some(other) => bail!(
                "ciao-ipam holds subnet {subnet} for tenant {other}: give -o tenant={other} with --ipam-opt tenant={other}"
            ),
            None => Ok(None),
        },
    }
}

/// Sets a crosswise pairing right, when an endpoint with `address` comes to `network`.
///
/// # Errors
/// The disk's.
pub(crate) fn settle(tx: &Tx<'_>, network: &Network, address: IpAddr) -> Result<()> {
    let Some(subnet) = network.subnets.iter().find(|subnet| subnet.subnet.contains(address)) else { return Ok(()) };
    let Some(mine) = subnet.set_id else { return Ok(()) };
    let Some((right, paired_with)) = tx.own_set_holding(mine, subnet.subnet, address)? else { return Ok(()) };
    log::info!("network {} is on another set of addresses of {}: set right", network.id.short(), subnet.subnet);
    if let Some(other) = paired_with {
        tx.set_network_set(&other, subnet.subnet, Some(mine))?;
    }
    tx.set_network_set(&network.id, subnet.subnet, Some(right))
}
