// SPDX-License-Identifier: Apache-2.0
//! A container's attachment to a network: an endpoint with its VNIC and published ports, and how it ends, whoever ends
//! it.

use std::time::Duration;

use anyhow::{Context, Result};
use ciao_common::store::{Answer, Endpoint, Owner, Port, Tx, Vnic};
use ciao_common::types::{EndpointId, VnicId};

use crate::kernel::LinkLocation;
use crate::{Driver, fabric};

/// How long a new endpoint takes until it has joined, where it is not known whether it is still under way.
const JOINS_WITHIN: Duration = Duration::from_secs(15);

/// How long a container's start takes at most: what was left by a lost call is not under way for ever.
const STARTS_WITHIN: Duration = Duration::from_secs(600);

/// What is still to be removed when the record of an endpoint is deleted.
#[derive(Default)]
pub(crate) struct Detached {
    endpoint: Option<EndpointId>,
    /// For the log.
    described: String,
    /// Its VNIC, if that is Docker's.
    vnic: Option<VnicId>,
    ports: Vec<Port>,
}

/// Whether a container may be about to get an endpoint's link, which is on the host.
pub(crate) fn is_joining(tx: &Tx<'_>, endpoint: &Endpoint) -> Result<bool> {
    Ok(endpoint.created > tx.ago(JOINS_WITHIN)
        || (endpoint.created > tx.ago(STARTS_WITHIN) && tx.is_under_way(endpoint)?))
}

/// An endpoint and its VNIC.
pub(crate) fn lookup(tx: &Tx<'_>, id: &EndpointId) -> Result<(Endpoint, Vnic)> {
    let endpoint = tx.endpoint(id)?.with_context(|| {
        format!(
            "endpoint {} is unknown: it was deleted, or created by another ciao-net; start the container again",
            id.short()
        )
    })?;
    let missing = || format!("VNIC {} of endpoint {} is deleted: start the container again", endpoint.vnic, id.short());
    let vnic = tx.vnic(&endpoint.vnic)?.with_context(missing)?;
    Ok((endpoint, vnic))
}

/// Who has which addresses, for the log.
pub(crate) fn described(endpoint: &EndpointId, vnic: Option<&Vnic>) -> String {
    let Some(vnic) = vnic else { return format!("endpoint {}", endpoint.short()) };
    let [tenant, instance] = [vnic.tenant.as_ref().map(|t| t.as_str()), vnic.instance.as_ref().map(|i| i.as_str())]
        .map(|name| name.unwrap_or("-"));
    let addresses = vnic.addresses().map(|address| address.to_string()).collect::<Vec<_>>().join(" ");
    format!("endpoint {}: tenant {tenant}, instance {instance}, VNIC {}, {addresses}", endpoint.short(), vnic.id)
}

/// Deletes an endpoint's record; a VNIC of Docker's goes to state `deleting` with it.
pub(crate) fn detach(tx: &Tx<'_>, endpoint: &Endpoint) -> Result<Detached> {
    let ports = tx.ports_of(&endpoint.id)?;
    tx.delete_endpoint(&endpoint.id)?;
    let vnic = tx.vnic(&endpoint.vnic)?;
    let described = described(&endpoint.id, vnic.as_ref());
    let vnic = vnic.filter(|vnic| vnic.owner == Owner::Docker).map(|vnic| vnic.id);
    if let Some(id) = &vnic {
        tx.set_vnic_deleting(id)?;
    }
    Ok(Detached { endpoint: Some(endpoint.id.clone()), described, vnic, ports })
}

impl Driver {
    /// Removes what an endpoint had. Its record is deleted already, so a failure is logged, and the next reconcile
    /// repeats it.
    pub(crate) fn clean_up(&self, detached: Detached) {
        if let Some(endpoint) = &detached.endpoint {
            self.ready.forget(endpoint);
            log::info!("detached {}", detached.described);
        }
        if let Err(error) = self.fabric.ports.close(&detached.ports) {
            log::warn!("close published ports: {error:#}");
        }
        if let Some(vnic) = detached.vnic {
            self.fabric.vnics.delete_later(vnic);
        }
    }

    /// Detaches an endpoint. `false`: it is not recorded.
    pub(crate) fn detach(&self, id: EndpointId) -> Result<bool> {
        let detached =
            self.store.write(move |tx| tx.endpoint(&id)?.map(|endpoint| detach(tx, &endpoint)).transpose())?;
        Ok(detached.map(|detached| self.clean_up(detached)).is_some())
    }

    /// Detaches an endpoint, unless its record has changed since it was read.
    pub(crate) fn detach_same(&self, endpoint: Endpoint) -> Result<()> {
        self.clean_up(self.begin_detach(endpoint).wait()?);
        Ok(())
    }

    /// The first half of [`Self::detach_same`], before [`Self::clean_up`]. Several begun together share a commit.
    pub(crate) fn begin_detach(&self, endpoint: Endpoint) -> Answer<Detached> {
        self.store.begin(move |tx| match tx.endpoint(&endpoint.id)? {
            Some(found) if found == endpoint => detach(tx, &found),
            _ => Ok(Detached::default()),
        })
    }

    /// Detaches an endpoint, unless a container has its link or is about to. `true`: detached.
    pub(crate) fn detach_stale(&self, id: &EndpointId) -> Result<bool> {
        let found = self.store.read(|tx| match tx.endpoint(id)? {
            Some(endpoint) => Ok(tx.vnic(&endpoint.vnic)?.zip(Some(endpoint))),
            None => Ok(None),
        })?;
        let Some((vnic, endpoint)) = found else { return Ok(false) };
        match self.fabric.kernel.locate(&fabric::veth(&vnic))? {
            LinkLocation::Container => return Ok(false),
            LinkLocation::Host(_) if self.store.read(|tx| is_joining(tx, &endpoint))? => return Ok(false),
            LinkLocation::Host(_) | LinkLocation::Absent => {}
        }
        log::info!("endpoint {} is stale, its container no longer exists: its ports are reassigned", id.short());
        self.detach_same(endpoint)?;
        Ok(true)
    }
}
