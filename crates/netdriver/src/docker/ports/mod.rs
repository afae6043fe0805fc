//! Published ports (`docker run -p`): `ProgramExternalConnectivity` and `RevokeExternalConnectivity`.
//!
//! A port of the host leads to the tenant's uplink, and there to the container, by an element of a map on each side.
//! Tenants' containers may have the same addresses; ports of the host are one each.

mod choice;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ciao_common::api::Empty;
use ciao_common::api::go::Options;
use ciao_common::api::network::{EndpointRef, PORT_MAP, PortBinding, ProgramExternalConnectivity};
use ciao_common::store::{Egress, Endpoint, Network, Port};
use ciao_common::types::{EndpointId, NetworkId};

use crate::docker::endpoint::lookup;
use crate::kernel::Namespace;
use crate::kernel::element::Change;
use crate::undone;
use crate::{Driver, rules};
use choice::Publishing;

impl Driver {
    /// `NetworkDriver.ProgramExternalConnectivity`: publishes an endpoint's ports. Published already: nothing to do.
    ///
    /// # Errors
    /// A port that somebody has; a network without a way out. Then none is published.
    pub fn program_external_connectivity(&self, request: ProgramExternalConnectivity) -> Result<Empty> {
        let bindings = bindings(&request.options)?;
        if bindings.is_empty() {
            return Ok(Empty {});
        }
        let (endpoint, _) = self.store.read(|tx| lookup(tx, &request.endpoint_id))?;
        let (network, published) =
            self.store.read(|tx| Ok((tx.network(&endpoint.network)?, tx.ports_of(&endpoint.id)?)))?;
        let network = network.with_context(|| format!("network {} is unknown", endpoint.network.short()))?;
        ensure!(
            network.egress == Egress::Nat,
            "port {} cannot be published: network {} has egress={}, and only egress=nat leads from the host to a container",
            bindings[0].port,
            network.id.short(),
            network.egress
        );
        if published.is_empty() {
            self.publish(&network, &endpoint, &bindings)?;
        }
        Ok(Empty {})
    }

    /// Refuses ports of an endpoint on a network without any way out, before anything is made: the engine would not ask
    /// to publish them. An `--internal` network's endpoints come here without ports, whatever the container has.
    ///
    /// # Errors
    /// The network is one, and there are ports.
    pub(crate) fn refuse_ports_without_egress(&self, network: &NetworkId, options: &Options) -> Result<()> {
        let bindings = bindings(options)?;
        let Some(first) = bindings.first() else { return Ok(()) };
        let closed = self.store.read(|tx| tx.network(network))?.is_some_and(|found| found.egress == Egress::None);
        ensure!(
            !closed,
            "port {} cannot be published: network {} has egress=none. Leave -p away; if the container publishes it on \
             another network, make this one --internal instead",
            first.port,
            network.short()
        );
        Ok(())
    }

    fn publish(&self, network: &Network, endpoint: &Endpoint, bindings: &[PortBinding]) -> Result<()> {
        let mut taking = Publishing::of(self, network, endpoint)?;
        let taken = bindings.iter().try_for_each(|binding| taking.take(binding));
        let ports = taking.ports;
        let published = taken
            .and_then(|()| {
                let rows = ports.clone();
                self.store.write(move |tx| rows.iter().try_for_each(|port| tx.insert_port(port)))
            })
            .and_then(|()| self.set_elements(&ports, Change::Add));
        let Err(error) = published else { return Ok(()) };
        // Whatever the disk says: what was taken is given back.
        let id = endpoint.id.clone();
        let forgotten = self.store.write(move |tx| tx.delete_ports_of(&id));
        Err(undone(error, self.close_ports(&ports).and(forgotten)))
    }

    /// `NetworkDriver.RevokeExternalConnectivity`: takes an endpoint's ports back. None: nothing to do.
    ///
    /// # Errors
    /// The disk's or the firewall's.
    pub fn revoke_external_connectivity(&self, request: EndpointRef) -> Result<Empty> {
        let ports = self.store.read(|tx| tx.ports_of(&request.endpoint_id))?;
        if !ports.is_empty() {
            self.unpublish(&request.endpoint_id, &ports)?;
        }
        Ok(Empty {})
    }

    fn unpublish(&self, endpoint: &EndpointId, ports: &[Port]) -> Result<()> {
        let id = endpoint.clone();
        self.store.write(move |tx| tx.delete_ports_of(&id))?;
        self.close_ports(ports)
    }

    /// Takes the elements and the sockets of ports away, whose records are gone already.
    pub(crate) fn close_ports(&self, ports: &[Port]) -> Result<()> {
        let gone = self.set_elements(ports, Change::Delete);
        // Only now: whoever takes the port next adds elements with the same keys.
        ports.iter().for_each(|port| self.held.release(port));
        gone
    }

    /// Puts the elements of ports into the maps of the host and of the tenant's namespace, or takes them out.
    fn set_elements(&self, ports: &[Port], change: Change) -> Result<()> {
        let Some(first) = ports.first() else { return Ok(()) };
        // One port at two of the host's addresses is one inside.
        let mut seen = BTreeSet::new();
        let inside = ports.iter().filter(|port| seen.insert((port.protocol, port.host_port, port.address)));
        let inner: Vec<_> = inside.map(rules::inner_port).collect();
        let kernel = &self.fabric.kernel;
        if kernel.has_namespace(&first.namespace)? {
            self.fabric
                .change_rules(&first.namespace, &inner, change)
                .context("lead published ports to the container")?;
        }
        let Some(uplink) = self.store.read(|tx| tx.uplink(&first.namespace))? else { return Ok(()) };
        let outer: Vec<_> = ports.iter().map(|port| rules::outer_port(port, &uplink, &self.fabric.pools)).collect();
        if change == Change::Add || kernel.has_rules(&Namespace::Host)? {
            self.fabric.change_host_rules(&outer, change).context("publish ports on the host")?;
        }
        Ok(())
    }

    /// Holds the ports that are recorded, after a start. One that another program took meanwhile is said.
    pub(crate) fn hold_recorded_ports(&self) -> Result<()> {
        for port in self.store.read(|tx| tx.ports())? {
            match self.held.take(port.protocol, port.host_address, port.host_port) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    log::warn!("published port {}/{} is taken by another program too", port.host_port, port.protocol);
                }
                Err(error) => log::warn!("published port {}/{}: {error:#}", port.host_port, port.protocol),
            }
        }
        Ok(())
    }
}

/// The published ports among an endpoint's options.
pub(crate) fn bindings(options: &Options) -> Result<Vec<PortBinding>> {
    let Some(value) = options.value(PORT_MAP) else { return Ok(Vec::new()) };
    let bindings: Option<Vec<PortBinding>> =
        serde_json::from_value(value.clone()).with_context(|| format!("read the published ports {value}"))?;
    Ok(bindings.unwrap_or_default())
}
