// SPDX-License-Identifier: Apache-2.0
//! The set of addresses for a pool request: the tenant's with that subnet, or a new one.

use anyhow::{Result, bail, ensure};
use ciao_common::api::ipam::RequestPool;
use ciao_common::store::{PoolSet, Tx};
use ciao_common::types::{Family, Scope, Subnet, TenantId};

use crate::vacancy::Hints;
use crate::{Config, vacancy};

/// The requested subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubnetRequest {
    /// This subnet.
    Exactly(Subnet),
    /// Any of this prefix length (`0.0.0.0/24`; engine 28 and newer).
    OfSize(Family, u8),
    /// Any (`""`, `0.0.0.0/0`, `::/0`).
    Any(Family),
}

impl SubnetRequest {
    pub(crate) fn of(request: &RequestPool) -> Result<Self> {
        let family = if request.v6 { Family::V6 } else { Family::V4 };
        let Some(pool) = request.pool else {
            if let Some(sub_pool) = request.sub_pool {
                bail!("sub-pool {sub_pool} needs a pool: give --subnet with --ip-range");
            }
            return Ok(Self::Any(family));
        };
        ensure!(pool.family() == family, "pool {pool} is {}, but an {family} pool is requested", pool.family());
        if let Some(sub_pool) = request.sub_pool {
            ensure!(
                pool.covers(sub_pool),
                "sub-pool {sub_pool} is not inside pool {pool}: give an --ip-range within --subnet"
            );
        }
        if pool.network().is_unspecified() {
            ensure!(request.sub_pool.is_none(), "a sub-pool needs a pool with an address, not {pool}");
            return Ok(if pool.prefix() == 0 { Self::Any(family) } else { Self::OfSize(family, pool.prefix()) });
        }
        Ok(Self::Exactly(pool))
    }
}

/// The requested set, and whether it is new.
pub(crate) fn requested_set(
    tx: &Tx<'_>,
    config: &Config,
    hints: &Hints,
    scope: Scope,
    tenant: Option<&TenantId>,
    request: SubnetRequest,
) -> Result<(PoolSet, bool)> {
    let subnet = match request {
        SubnetRequest::Exactly(subnet) => match same_set(tx, scope, tenant, subnet)? {
            Some(set) => return Ok((set, false)),
            None => subnet,
        },
        SubnetRequest::OfSize(family, size) => {
            vacancy::find(tx, hints, (scope, tenant), (family, Some(size)), &config.default_pools)?
        }
        SubnetRequest::Any(family) => vacancy::find(tx, hints, (scope, tenant), (family, None), &config.default_pools)?,
    };
    Ok((tx.insert_pool_set(scope, tenant, subnet)?, true))
}

/// The tenant's set with that subnet.
pub(crate) fn same_set(
    tx: &Tx<'_>,
    scope: Scope,
    tenant: Option<&TenantId>,
    subnet: Subnet,
) -> Result<Option<PoolSet>> {
    let Some(tenant) = tenant else { return Ok(None) };
    let touching = tx.pool_sets_touching(scope, Some(tenant), subnet)?;
    if let Some(same) = touching.iter().find(|set| set.subnet == subnet) {
        return Ok(Some(same.clone()));
    }
    match touching.first() {
        None => Ok(None),
        Some(other) => bail!(
            "pool {subnet} overlaps pool {} of tenant {tenant}: give another subnet, or another tenant",
            other.subnet
        ),
    }
}
