// SPDX-License-Identifier: Apache-2.0
//! Records of networks and containers that no longer exist: they are removed.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use ciao_common::api::network::NetworkRef;
use ciao_common::store::{Endpoint, Owner, Tx, Vnic};

use super::Known;
use super::missing::describe;
use super::repairs::Repairs;
use crate::attachment::is_joining;
use crate::docker::pairing;
use crate::kernel::LinkLocation;
use crate::{Driver, fabric};

/// Endpoints that are detached together.
const AT_ONCE: usize = 256;

/// An endpoint, and its VNIC unless that is deleted.
type Attachment = (Endpoint, Option<Vnic>);

impl Driver {
    /// Networks unknown to Docker: the reply to their creation, or the call to delete them, was lost. Without Docker's
    /// list, a network whose addresses ciao-ipam has released is one. The creation of a young one may not be finished.
    pub(super) fn remove_unknown_networks(
        &self,
        repairs: &mut Repairs<'_>,
        docker: Option<&Known>,
        before: i64,
    ) -> Result<()> {
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
            let what = format!("network {}", id.short());
            let mut attachments = self.attachments(|tx| tx.endpoints_of_network(&id))?;
            attachments.retain(|(endpoint, _)| !repairs.forgotten.endpoints.contains(&endpoint.id));
            let error = match self.first_living(&attachments) {
                Ok(None) => None,
                Ok(Some((endpoint, _))) => {
                    Some(anyhow!("a container is on it, by endpoint {}: stop it first", endpoint.id.short()))
                }
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                repairs.fail("remove", what, why, &error);
                continue;
            }
            attachments.iter().for_each(|(endpoint, vnic)| repairs.forgotten.add(endpoint, vnic.as_ref()));
            repairs.forgotten.networks.insert(id.clone());
            repairs.repair("remove", what, why, |driver| {
                driver.delete_network(NetworkRef { network_id: id }).map(|_| true)
            });
        }
        Ok(())
    }

    /// Endpoints, and their VNICs unless these are deleted.
    fn attachments(&self, list: impl Fn(&Tx<'_>) -> Result<Vec<Endpoint>>) -> Result<Vec<Attachment>> {
        self.store.read(|tx| {
            let vnics = |endpoint: &Endpoint| tx.vnic(&endpoint.vnic);
            list(tx)?.into_iter().map(|endpoint| vnics(&endpoint).map(|vnic| (endpoint, vnic))).collect()
        })
    }

    /// The first whose link a container has.
    fn first_living<'a>(&self, attachments: &'a [Attachment]) -> Result<Option<&'a Attachment>> {
        for attachment in attachments {
            if self.location(attachment.1.as_ref())? == LinkLocation::Container {
                return Ok(Some(attachment));
            }
        }
        Ok(None)
    }

    fn location(&self, vnic: Option<&Vnic>) -> Result<LinkLocation> {
        vnic.map_or(Ok(LinkLocation::Absent), |vnic| self.fabric.kernel.locate(&fabric::veth(vnic)))
    }

    /// Endpoints without a container: dockerd was killed, or its call to delete them was lost. Killed while it started
    /// a container, Docker 28 leaves a `runc init` in that container's namespace for good: only its own list shows
    /// that.
    pub(super) fn remove_stale_endpoints(
        &self,
        repairs: &mut Repairs<'_>,
        docker: Option<&Known>,
        before: i64,
    ) -> Result<()> {
        let known = docker.and_then(|docker| docker.endpoints.as_ref());
        let (mut found, mut unseen) = (Vec::new(), BTreeMap::new());
        for (stale, vnic) in self.attachments(|tx| tx.endpoints())? {
            if stale.created >= before {
                continue;
            }
            // A namespace that cannot be entered is its tenant's alone.
            let location = match self.location(vnic.as_ref()) {
                Ok(location) => location,
                Err(error) => {
                    unseen.entry(vnic.and_then(|vnic| vnic.namespace)).or_insert(error);
                    continue;
                }
            };
            let is_absent = location == LinkLocation::Absent;
            let lives = location == LinkLocation::Container;
            let why = match known {
                _ if !is_absent && !lives && self.store.read(|tx| is_joining(tx, &stale))? => continue,
                // Its container runs without the link, and is listed as such as long as the endpoint is recorded.
                Some(known) if !lives && known.contains(&stale.id) => continue,
                _ if is_absent => "its links are missing; restart its container",
                _ if !lives => "no container uses its link",
                // Not a container's: the engine whose it was says so.
                Some(known) if !known.contains(&stale.id) => "unknown to Docker",
                _ => continue,
            };
            repairs.forgotten.add(&stale, vnic.as_ref());
            let what = format!("endpoint {}", stale.id.short());
            found.push((what, why, stale, vnic.filter(|vnic| lives && vnic.owner == Owner::Launcher)));
        }
        for (namespace, error) in unseen {
            let of = describe(namespace.as_deref());
            repairs.step(format!("endpoints of {of}"), Err(error));
        }
        // After a reboot that is every endpoint: many share a commit, and calls of Docker's come in between.
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let begun = found.by_ref().take(AT_ONCE).map(|(what, why, stale, living)| {
                let detached = (!repairs.dry).then(|| self.begin_detach(stale));
                (what, why, detached, living)
            });
            for (what, why, detached, living) in begun.collect::<Vec<_>>() {
                let done = repairs.repair("remove", what, why, |driver| {
                    detached.map_or(Ok(()), |detached| detached.wait().map(|detached| driver.clean_up(detached)))?;
                    Ok(true)
                });
                if let Some(vnic) = living.filter(|_| done) {
                    self.take_back(repairs, &vnic);
                }
            }
        }
        Ok(())
    }

    /// Records which endpoints' links containers have: those are not under way any more.
    pub(super) fn note_attached(&self) -> Result<()> {
        let mut attached = Vec::new();
        for (endpoint, vnic) in self.attachments(|tx| tx.endpoints())? {
            // Where it cannot be seen, the look for stale ones says so.
            let is_there = || self.location(vnic.as_ref()).is_ok_and(|location| location == LinkLocation::Container);
            if endpoint.attached.is_none() && is_there() {
                attached.push(endpoint.id);
            }
        }
        if attached.is_empty() {
            return Ok(());
        }
        self.store.write(move |tx| attached.iter().try_for_each(|id| tx.set_attached(id)))
    }

    /// Networks without tenant that were paired with each other's sets of addresses, as far as leases show now.
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
