//! Published ports (`docker run -p`): `ProgramExternalConnectivity` and `RevokeExternalConnectivity`.
//!
//! A port of the host leads to the tenant's uplink, and there to the container, by an element of a map on each side.
//! Tenants' containers may have the same addresses; ports of the host are one each.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::Empty;
use ciao_common::api::go::Options;
use ciao_common::api::network::{EndpointRef, PORT_MAP, PortBinding, ProgramExternalConnectivity};
use ciao_common::store::{Egress, Endpoint, Network, Port, Protocol};
use ciao_common::types::{EndpointId, NetworkId};

use crate::endpoint::lookup;
use crate::held::process_with;
use crate::kernel::Namespace;
use crate::kernel::element::Change;
use crate::undone;
use crate::{Driver, rules};

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
        let mut ports = Vec::new();
        let namespace = network.namespace.as_deref();
        let mut inside = self.store.read(|tx| tx.ports())?;
        inside.retain(|port| Some(port.namespace.as_str()) == namespace);
        let published = bindings
            .iter()
            .try_for_each(|binding| self.hold(network, endpoint, binding, &inside, &mut ports))
            .and_then(|()| {
                let rows = ports.clone();
                self.store.write(move |tx| rows.iter().try_for_each(|port| tx.insert_port(port)))
            })
            .and_then(|()| self.set_elements(&ports, Change::Add));
        if let Err(error) = published {
            return Err(undone(error, self.unpublish(&endpoint.id, &ports)));
        }
        Ok(())
    }

    /// Takes the ports of the host that a binding asks for: one for each family that the container has. `inside` are
    /// those of its tenant's other containers, `ports` its own.
    fn hold(
        &self,
        network: &Network,
        endpoint: &Endpoint,
        binding: &PortBinding,
        inside: &[Port],
        ports: &mut Vec<Port>,
    ) -> Result<()> {
        let protocol = protocol(binding.proto)?;
        let namespace = network.namespace.clone().context("the network's bridge is in no namespace of ciao-net")?;
        let containers: Vec<_> = [endpoint.address, endpoint.address6].into_iter().flatten().collect();
        let mut number = None;
        for address in containers {
            let everywhere: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let host_address = binding.host_ip.unwrap_or(everywhere);
            if host_address.is_ipv4() != address.is_ipv4() {
                continue;
            }
            // Both families have the same number.
            let wanted = number.map_or((binding.host_port, binding.host_port_end), |number| (number, number));
            let mut port = Port {
                protocol,
                host_address,
                host_port: 0,
                endpoint: endpoint.id.clone(),
                namespace: namespace.clone(),
                address,
                container_port: binding.port,
            };
            self.hold_one(&mut port, wanted, inside, ports)?;
            number = Some(port.host_port);
            ports.push(port);
        }
        ensure!(
            number.is_some(),
            "port {} cannot be published at {}: the container has no address of that family",
            binding.port,
            binding.host_ip.map_or_else(|| "any address".to_owned(), |address| address.to_string())
        );
        Ok(())
    }

    /// Takes the first free port from `first` to `last`, or any if `first` is 0.
    fn hold_one(&self, port: &mut Port, (first, last): (u16, u16), inside: &[Port], ports: &[Port]) -> Result<()> {
        let (protocol, address) = (port.protocol, port.host_address);
        for number in first..=last.max(first) {
            port.host_port = number;
            let clash = number != 0 && inside.iter().chain(ports).any(|other| clash(port, other));
            if !clash && let Some(number) = self.held.take(protocol, address, number)? {
                port.host_port = number;
                return Ok(());
            }
        }
        let range = if last > first {
            format!("ports {first}-{last}/{protocol} are all")
        } else {
            format!("port {first}/{protocol} is")
        };
        port.host_port = first;
        if let Some(other) =
            inside.iter().chain(ports).find(|other| clash(port, other) && other.host_address != address)
        {
            bail!(
                "{range} taken at {} by endpoint {} of the same tenant, whose ports have one number each, whatever the \
                 host's address: publish another one",
                other.host_address,
                other.endpoint.short()
            );
        }
        bail!("{range} taken at {address}{}: publish another one", self.holder(protocol, address, first)?)
    }

    /// Who has a port, as the end of a sentence.
    fn holder(&self, protocol: Protocol, address: IpAddr, number: u16) -> Result<String> {
        let ours = self.store.read(|tx| {
            let Some(port) = tx.port_at(protocol, address, number)? else { return Ok(None) };
            let network = tx.endpoint(&port.endpoint)?.map(|endpoint| tx.network(&endpoint.network)).transpose()?;
            Ok(Some((port, network.flatten().and_then(|network| network.tenant))))
        })?;
        if let Some((port, tenant)) = ours {
            let of_tenant = tenant.map_or_else(String::new, |tenant| format!(" of tenant {tenant}"));
            return Ok(format!(" by endpoint {}{of_tenant}", port.endpoint.short()));
        }
        Ok(process_with(protocol, number).map_or_else(String::new, |name| format!(" by {name}")))
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
        ports.iter().for_each(|port| self.held.release(port));
        self.set_elements(ports, Change::Delete)
    }

    /// Puts the elements of ports into the maps of the host and of the tenant's namespace, or takes them out.
    fn set_elements(&self, ports: &[Port], change: Change) -> Result<()> {
        let Some(first) = ports.first() else { return Ok(()) };
        // One port at two of the host's addresses is one inside.
        let mut seen = BTreeSet::new();
        let inside = ports.iter().filter(|port| seen.insert((port.protocol, port.host_port, port.address)));
        let inner: Vec<_> = inside.map(rules::inner_port).collect();
        let kernel = &self.wiring.kernel;
        if kernel.has_namespace(&first.namespace)? {
            self.wiring
                .change_rules(&first.namespace, &inner, change)
                .context("lead published ports to the container")?;
        }
        let Some(uplink) = self.store.read(|tx| tx.uplink(&first.namespace))? else { return Ok(()) };
        let outer: Vec<_> = ports.iter().map(|port| rules::outer_port(port, &uplink, &self.wiring.pools)).collect();
        if change == Change::Add || kernel.has_rules(&Namespace::Host)? {
            self.wiring.change_host_rules(&outer, change).context("publish ports on the host")?;
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

/// Whether two ports cannot both be published. In the tenant's namespace a port is known by its number alone.
fn clash(port: &Port, other: &Port) -> bool {
    let leads_to = |port: &Port| (port.endpoint.clone(), port.address, port.container_port);
    (other.protocol, other.host_port) == (port.protocol, port.host_port)
        && other.host_address.is_ipv4() == port.host_address.is_ipv4()
        && leads_to(other) != leads_to(port)
}

/// The published ports among an endpoint's options.
pub(crate) fn bindings(options: &Options) -> Result<Vec<PortBinding>> {
    let Some(value) = options.value(PORT_MAP) else { return Ok(Vec::new()) };
    let bindings: Option<Vec<PortBinding>> =
        serde_json::from_value(value.clone()).with_context(|| format!("read the published ports {value}"))?;
    Ok(bindings.unwrap_or_default())
}

fn protocol(number: u8) -> Result<Protocol> {
    Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.number() == number)
        .with_context(|| format!("protocol {number} has no ports that could be published: give tcp, udp or sctp"))
}
