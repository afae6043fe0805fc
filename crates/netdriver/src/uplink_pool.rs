// SPDX-License-Identifier: Apache-2.0
//! The addresses of tenants' uplinks: pairs of them, numbered.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use ciao_common::types::{Subnet, number};

/// Where uplinks' addresses come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UplinkPool {
    v4: Subnet,
    v6: Subnet,
}

impl UplinkPool {
    /// Pairs of addresses out of an IPv4 and an IPv6 subnet.
    pub(crate) fn new(v4: Subnet, v6: Subnet) -> Result<Self> {
        ensure!(v4.network().is_ipv4() && v4.prefix() <= 31, "uplink pool {v4}: give an IPv4 subnet of /31 or larger");
        ensure!(
            v6.network().is_ipv6() && v6.prefix() <= 112,
            "uplink pool {v6}: give an IPv6 subnet of /112 or larger"
        );
        Ok(Self { v4, v6 })
    }

    /// Whether a namespace can have both a subnet and an uplink: it routes by the uplink's addresses.
    pub(crate) fn check_disjoint(&self, subnet: Subnet) -> Result<()> {
        for pool in [self.v4, self.v6] {
            ensure!(
                !subnet.overlaps(pool),
                "subnet {subnet} overlaps {pool}, the address pool of the uplinks: \
                 give another subnet, or start ciao-net with another --uplink-pool"
            );
        }
        Ok(())
    }

    /// The subnets of two addresses with that number.
    pub(crate) fn pairs(&self, number: u32) -> Result<[Subnet; 2]> {
        let pair = |pool: Subnet| {
            let first = pool.range().first + 2 * u128::from(number);
            ensure!(
                first < pool.range().last,
                "the uplink pool {pool} is exhausted: start ciao-net with another --uplink-pool"
            );
            Subnet::new(pool.family().address(first), pool.family().bits() - 1)
        };
        Ok([pair(self.v4)?, pair(self.v6)?])
    }

    /// The number of the pair that an IPv4 address of a namespace is of, and the host's address of it.
    pub(crate) fn pair_of(&self, inner: IpAddr) -> Option<(u32, IpAddr)> {
        let first = self.v4.range().first;
        let offset = self.v4.contains(inner).then(|| number(inner) - first).filter(|offset| offset % 2 == 1)?;
        Some((u32::try_from(offset / 2).ok()?, self.v4.family().address(first + offset - 1)))
    }

    /// The namespace's address with that number.
    pub(crate) fn inner_address(&self, number: u32, v6: bool) -> IpAddr {
        let pool = if v6 { self.v6 } else { self.v4 };
        pool.family().address(pool.range().first + 2 * u128::from(number) + 1)
    }
}
