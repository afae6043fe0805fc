// SPDX-License-Identifier: Apache-2.0
//! What the host's rules are to be: as recorded, and as traffic leaves the host.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use ciao_common::store::Store;

use crate::kernel::Kernel;
use crate::kernel::element::Ruleset;
use crate::rules::{self, EgressPolicy, HostEgress};
use crate::uplink_pool::UplinkPool;

/// What the rules are made of.
pub(crate) struct HostRuleset {
    pub(super) store: Arc<Store>,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) pool: UplinkPool,
    /// As an administrator has set it.
    pub(super) policy: EgressPolicy,
    /// How many source ports each tenant may have.
    pub(super) nat_ports: u32,
}

impl HostRuleset {
    /// As recorded, and as the host is.
    pub(super) fn ruleset(&self) -> Result<Ruleset> {
        let (networks, ports, uplinks) = self.store.read(|tx| Ok((tx.networks()?, tx.ports()?, tx.uplinks()?)))?;
        let forwarded = ports.into_iter().filter_map(|port| {
            let uplink = uplinks.iter().find(|uplink| uplink.namespace == port.namespace)?;
            let address = self.pool.inner_address(uplink.number, port.host_address.is_ipv6());
            Some((port, address))
        });
        let (forwarded, egress) = (forwarded.collect::<Vec<_>>(), self.egress()?);
        Ok(rules::host_ruleset(&networks, &uplinks, &forwarded, &egress, &self.policy.deny, self.nat_ports))
    }

    pub(super) fn egress(&self) -> Result<HostEgress> {
        Ok(HostEgress { links: self.kernel.egress_links()?, resolvers: self.resolvers() })
    }

    pub(super) fn resolvers(&self) -> BTreeSet<IpAddr> {
        let mut found = self.kernel.resolvers();
        found.extend(&self.policy.resolvers);
        found
    }
}
