// SPDX-License-Identifier: Apache-2.0
//! Which ports of the host an endpoint gets: free ones among those that are requested, held from then on.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use ciao_common::api::endpoint::PortBinding;
use ciao_common::store::{Endpoint, Network, Port, Protocol};

use crate::Driver;

/// How often a port that the kernel chose for one family is tried for the other one.
const EPHEMERAL_TRIES: usize = 16;

/// An endpoint's ports while they are taken.
pub(crate) struct Publishing<'a> {
    driver: &'a Driver,
    endpoint: &'a Endpoint,
    namespace: &'a str,
    /// What it has so far.
    pub(crate) ports: Vec<Port>,
}

impl<'a> Publishing<'a> {
    /// None yet, of an endpoint on a network.
    pub(crate) fn of(driver: &'a Driver, network: &'a Network, endpoint: &'a Endpoint) -> Result<Self> {
        let namespace = network.namespace.as_deref();
        let namespace = namespace.context("the network is on a bridge of the host")?;
        Ok(Self { driver, endpoint, namespace, ports: Vec::new() })
    }

    /// Takes the ports that a binding asks for: one for each family that the container has, with the same number; the
    /// first free number of a range, or any.
    ///
    /// # Errors
    /// All are in use; an address that is not one of the host or the container.
    pub(crate) fn take(&mut self, binding: &PortBinding) -> Result<()> {
        let places = self.places(binding)?;
        let Some(first) = places.first() else {
            bail!(
                "port {} cannot be published at {}: the container has no address of that family{}",
                binding.port,
                binding.host_ip.map_or_else(|| "any address".to_owned(), |address| address.to_string()),
                if binding.host_ip.is_some_and(|address| address.is_ipv6()) {
                    ", and there is no proxy: create its network with --ipv6, or publish at an IPv4 address"
                } else {
                    ""
                }
            );
        };
        let (low, high) = (binding.host_port, binding.host_port_end.max(binding.host_port));
        let tries = if low == 0 { EPHEMERAL_TRIES } else { 1 };
        for number in (low..=high).flat_map(|number| std::iter::repeat_n(number, tries)) {
            let begun = self.ports.len();
            let taken = places.iter().try_fold(Some(number), |number, port| match number {
                Some(number) => self.take_one(Port { host_port: number, ..port.clone() }),
                None => Ok(None),
            });
            if matches!(taken, Ok(Some(_))) {
                return Ok(());
            }
            self.ports.drain(begun..).for_each(|port| self.driver.fabric.ports.release(&port));
            taken?;
        }
        let range = match (low, high) {
            (low, high) if low < high => format!("ports {low}-{high}/{} are all", first.protocol),
            _ => format!("port {low}/{} is", first.protocol),
        };
        bail!("{range} in use on {}: publish another one", self.holder(first, &places, low)?)
    }

    /// What a binding asks for at each of the container's addresses, without a number yet.
    fn places(&self, binding: &PortBinding) -> Result<Vec<Port>> {
        let protocol = protocol(binding.proto)?;
        let mut places = Vec::new();
        for address in [self.endpoint.address, self.endpoint.address6].into_iter().flatten() {
            let everywhere: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let host_address = binding.host_ip.unwrap_or(everywhere);
            if host_address.is_ipv4() == address.is_ipv4() {
                places.push(Port {
                    protocol,
                    host_address,
                    host_port: 0,
                    endpoint: self.endpoint.id.clone(),
                    namespace: self.namespace.to_owned(),
                    address,
                    container_port: binding.port,
                    inner_port: 0,
                });
            }
        }
        Ok(places)
    }

    /// Takes one port, if need be from a container that no longer exists. Returns its number; `None`: it is in use.
    fn take_one(&mut self, port: Port) -> Result<Option<u16>> {
        loop {
            let held = self.driver.fabric.ports.hold(port.protocol, port.host_address, port.host_port)?;
            let taken = Port { host_port: held.unwrap_or(port.host_port), ..port.clone() };
            let holder = self.recorded(&taken)?.map(|port| port.endpoint);
            let holder = holder.filter(|holder| *holder != self.endpoint.id);
            if let Some(number) = held {
                if holder.is_none() {
                    self.ports.push(Port { inner_port: number, ..taken });
                    return Ok(Some(number));
                }
                // Another program had it when ciao-net started, so it is published and was not held.
                self.driver.fabric.ports.release(&taken);
            }
            let Some(holder) = holder else { return Ok(None) };
            if !self.driver.detach_stale(&holder)? {
                return Ok(None);
            }
        }
    }

    fn recorded(&self, port: &Port) -> Result<Option<Port>> {
        self.driver.store.read(|tx| tx.port_at(port.protocol, port.host_address, port.host_port))
    }

    /// Where a port is in use, and what uses it, as the end of a sentence.
    fn holder(&self, first: &Port, places: &[Port], number: u16) -> Result<String> {
        for place in places {
            let port = Port { host_port: number, ..place.clone() };
            let at = port.host_address;
            if let Some(other) = self.recorded(&port)? {
                return Ok(format!("{at} by endpoint {}{}", other.endpoint.short(), self.tenant_of(&other)?));
            }
        }
        let sockets = match first.protocol {
            Protocol::Tcp => 't',
            Protocol::Udp => 'u',
            Protocol::Sctp => 'S',
        };
        let at = first.host_address;
        Ok(format!("{at} by another program, see \"ss -l{sockets}np 'sport = :{number}'\""))
    }

    fn tenant_of(&self, port: &Port) -> Result<String> {
        let network = self.driver.store.read(|tx| match tx.endpoint(&port.endpoint)? {
            Some(endpoint) => tx.network(&endpoint.network),
            None => Ok(None),
        })?;
        let tenant = network.and_then(|network| network.tenant);
        Ok(tenant.map_or_else(String::new, |tenant| format!(" of tenant {tenant}")))
    }
}

fn protocol(number: u8) -> Result<Protocol> {
    Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.number() == number)
        .with_context(|| format!("protocol {number} cannot be published: give tcp, udp or sctp"))
}
