// SPDX-License-Identifier: Apache-2.0
//! Records whose network or container is gone: they are forgotten.

use anyhow::Result;
use ciao_common::api::network::NetworkRef;
use ciao_common::store::{Owner, now};

use super::{Known, Repairs, SETTLED};
use crate::docker::pairing;
use crate::kernel::{LinkLocation, Namespace};
use crate::{Driver, fabric};

impl Driver {
    /// Networks that Docker does not know: its call to make them was answered in vain, or that to delete them was lost.
    /// Without its list, a network whose addresses ciao-ipam has released is one. A young one may be under way.
    pub(super) fn remove_unknown_networks(&self, repairs: &mut Repairs<'_>, docker: Option<&Known>) -> Result<()> {
        let before = now() - i64::try_from(SETTLED.as_millis()).unwrap_or(i64::MAX);
        let (orphans, settled) = self.store.read(|tx| {
            let settled = tx.networks_before(before)?;
            Ok((tx.networks_without_pools()?, settled))
        })?;
        for id in settled {
            let why = match docker {
                Some(known) if !known.networks.contains(&id) => "unknown to Docker",
                _ if orphans.contains(&id) => "its addresses were released",
                _ => continue,
            };
            repairs.repair("remove", format!("network {}", id.short()), why, |driver| {
                driver.delete_network(NetworkRef { network_id: id }).map(|_| true)
            });
        }
        Ok(())
    }

    /// Endpoints that no container has: dockerd was killed, or its call to delete them was lost. Killed while it started a
    /// container, Docker 28 leaves a `runc init` in that container's namespace for good: only its own list tells.
    pub(super) fn remove_stale_endpoints(&self, repairs: &mut Repairs<'_>, docker: Option<&Known>) -> Result<()> {
        let known = docker.and_then(|docker| docker.endpoints.as_ref());
        let before = now() - i64::try_from(SETTLED.as_millis()).unwrap_or(i64::MAX);
        let endpoints = self.store.read(|tx| {
            let endpoints = tx.endpoints()?.into_iter().filter(|endpoint| endpoint.created < before);
            endpoints.map(|endpoint| Ok((tx.vnic(&endpoint.vnic)?, endpoint))).collect::<Result<Vec<_>>>()
        })?;
        for (vnic, stale) in endpoints {
            let location = match &vnic {
                Some(vnic) => self.fabric.kernel.locate(&fabric::veth(vnic))?,
                None => LinkLocation::Absent,
            };
            let is_absent = location == LinkLocation::Absent;
            let lives = location == LinkLocation::Container;
            let why = match known {
                // Its container runs on without network, and is listed as such as long as the endpoint is recorded.
                Some(known) if is_absent && known.contains(&stale.id) => continue,
                _ if is_absent => "its links are missing; restart its container",
                _ if !lives => "no container uses its link",
                Some(known) if !known.contains(&stale.id) => "unknown to Docker",
                _ => continue,
            };
            let left = vnic.filter(|vnic| lives && vnic.owner == Owner::Launcher);
            repairs.repair("remove", format!("endpoint {}", stale.id.short()), why, |driver| {
                driver.detach_same(stale)?;
                // Made again with what is missing.
                if let Some(vnic) = left {
                    let namespace = Namespace::of(vnic.namespace.as_deref());
                    driver.fabric.kernel.delete_link(&namespace, &vnic.host_link)?;
                }
                Ok(true)
            });
        }
        Ok(())
    }

    /// Networks without tenant that were paired with each other's sets of addresses, as far as leases tell by now.
    pub(super) fn settle_pairings(&self) -> Result<()> {
        self.store.write(|tx| {
            for network in tx.networks()?.into_iter().filter(|network| network.tenant.is_none()) {
                pairing::settle_released(tx, &network)?;
                for endpoint in tx.endpoints_of_network(&network.id)? {
                    for address in [endpoint.address, endpoint.address6].into_iter().flatten() {
                        // The one before may have changed it.
                        let network = tx.network(&network.id)?.unwrap_or_else(|| network.clone());
                        pairing::settle(tx, &network, address)?;
                    }
                }
            }
            Ok(())
        })
    }
}
