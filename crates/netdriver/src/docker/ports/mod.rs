// SPDX-License-Identifier: Apache-2.0
//! Published ports (`docker run -p`): `ProgramExternalConnectivity` and `RevokeExternalConnectivity`.
//!
//! A port of the host leads to the tenant's uplink, and there to the container, by an element of a map on each side.
//! Tenants' containers may have the same addresses; ports of the host are one each.

mod choice;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::Empty;
use ciao_common::api::endpoint::{EndpointRef, PORT_MAP, PortBinding, SandboxRequest};
use ciao_common::api::go::{self, Options};
use ciao_common::store::{Egress, Endpoint, Network};
use ciao_common::types::NetworkId;

use crate::Driver;
use crate::attachment::lookup;
use crate::rollback::rolled_back;
use choice::Publishing;

impl Driver {
    /// `NetworkDriver.ProgramExternalConnectivity`: publishes an endpoint's ports. Published already: nothing to do.
    ///
    /// # Errors
    /// A port in use; a network without egress. Then no port is published.
    pub fn program_external_connectivity(&self, request: SandboxRequest) -> Result<Empty> {
        let bindings = bindings(&request.options)?;
        if bindings.is_empty() {
            return Ok(Empty {});
        }
        // The engine may ask twice at the same time.
        let _lock = self.fabric.ports.lock(&request.endpoint_id);
        let (endpoint, _) = self.store.read(|tx| lookup(tx, &request.endpoint_id))?;
        let (network, published) =
            self.store.read(|tx| Ok((tx.network(&endpoint.network)?, tx.ports_of(&endpoint.id)?)))?;
        let network = network.with_context(|| format!("network {} is unknown", endpoint.network.short()))?;
        ensure!(
            network.egress == Egress::Nat,
            "port {} cannot be published: network {} has egress={}, and only networks with egress=nat can publish ports",
            bindings[0].port,
            network.id.short(),
            network.egress
        );
        self.fabric.restored(network.namespace.as_deref())?;
        if published.is_empty() {
            self.publish(&network, &endpoint, &bindings)?;
        }
        Ok(Empty {})
    }

    /// Refuses ports of an endpoint on a network without egress, before anything is created: the engine would not
    /// request to publish them. An `--internal` network's endpoints come here without ports, whatever the container
    /// has.
    pub(crate) fn refuse_ports_without_egress(&self, network: &NetworkId, options: &Options) -> Result<()> {
        let bindings = bindings(options)?;
        let Some(first) = bindings.first() else { return Ok(()) };
        let closed = self.store.read(|tx| tx.network(network))?.is_some_and(|found| found.egress == Egress::None);
        ensure!(
            !closed,
            "port {} cannot be published: network {} has egress=none. Omit -p; if the container publishes it on \
             another network, make this one --internal instead",
            first.port,
            network.short()
        );
        Ok(())
    }

    fn publish(&self, network: &Network, endpoint: &Endpoint, bindings: &[PortBinding]) -> Result<()> {
        let mut taking = Publishing::of(self, network, endpoint)?;
        let taken = bindings.iter().try_for_each(|binding| taking.take(binding));
        let held = taking.ports;
        let recorded = taken.and_then(|()| {
            let mut rows = held.clone();
            self.store.write(move |tx| {
                for port in &mut rows {
                    port.inner_port = tx.free_inner_port(port)?;
                    tx.insert_port(port)?;
                }
                Ok(rows)
            })
        });
        // Nothing is forwarded yet: an element with the same key is another endpoint's.
        let ports = recorded.inspect_err(|_| held.iter().for_each(|port| self.fabric.ports.release(port)))?;
        let Err(error) = self.fabric.ports.open(&ports) else { return self.still_attached(network, endpoint) };
        // Even if the records cannot be deleted, what was taken is released.
        let id = endpoint.id.clone();
        let forgotten = self.store.write(move |tx| tx.delete_ports_of(&id));
        Err(rolled_back(error, self.fabric.ports.close(&ports).and(forgotten)))
    }

    /// An endpoint may be deleted while its ports are opened: they were released then, and what is forwarded is to be
    /// as recorded.
    fn still_attached(&self, network: &Network, endpoint: &Endpoint) -> Result<()> {
        if self.store.read(|tx| tx.endpoint(&endpoint.id))?.is_some() {
            return Ok(());
        }
        let inside = network.namespace.as_deref().map_or(Ok(()), |name| self.fabric.tenant_rules.load(name));
        inside.and(self.fabric.host_rules.reload())?;
        bail!("endpoint {} was deleted while its ports were published", endpoint.id.short())
    }

    /// `NetworkDriver.RevokeExternalConnectivity`: takes an endpoint's ports back. None: nothing to do.
    pub fn revoke_external_connectivity(&self, request: EndpointRef) -> Result<Empty> {
        let _lock = self.fabric.ports.lock(&request.endpoint_id);
        let ports = self.store.read(|tx| tx.ports_of(&request.endpoint_id))?;
        if ports.is_empty() {
            return Ok(Empty {});
        }
        self.store.write(move |tx| tx.delete_ports_of(&request.endpoint_id))?;
        self.fabric.ports.close(&ports)?;
        Ok(Empty {})
    }
}

/// The published ports among an endpoint's options.
pub(crate) fn bindings(options: &Options) -> Result<Vec<PortBinding>> {
    let Some(value) = options.value(PORT_MAP) else { return Ok(Vec::new()) };
    go::objects(value.clone()).with_context(|| format!("read the published ports {value}"))
}
