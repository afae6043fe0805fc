// SPDX-License-Identifier: Apache-2.0
//! Published ports: each held on the host, and forwarded by an element of a map there and one in the tenant's
//! namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, Result, ensure};
use ciao_common::store::{Port, Protocol, Store};
use ciao_common::sync::lock;
use ciao_common::types::EndpointId;

use super::host_rules::HostRules;
use super::locks::Locks;
use super::tenant_rules::TenantRules;
use crate::kernel::element::{Change, Element};
use crate::kernel::{Flows, HeldPort, Kernel, Namespace};
use crate::rules;
use crate::uplink_pool::UplinkPool;

/// All published ports.
pub(crate) struct PublishedPorts {
    pub(super) store: Arc<Store>,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) tenant_rules: Arc<TenantRules>,
    pub(super) host_rules: Arc<HostRules>,
    pub(super) pool: UplinkPool,
    /// How many can be held.
    pub(super) most: usize,
    pub(super) endpoints: Locks,
    pub(super) held: Mutex<BTreeMap<(Protocol, IpAddr, u16), HeldPort>>,
}

impl PublishedPorts {
    /// Until the guard is dropped, nobody else publishes or withdraws ports of the endpoint.
    pub(crate) fn lock(&self, endpoint: &EndpointId) -> MutexGuard<'_, ()> {
        self.endpoints.lock(endpoint.as_str())
    }

    /// Holds a port of the host; 0: any free one. Returns its number; `None`: it is in use.
    pub(crate) fn hold(&self, protocol: Protocol, address: IpAddr, number: u16) -> Result<Option<u16>> {
        ensure!(
            lock(&self.held).len() < self.most,
            "port {number}/{protocol} cannot be published: {} ports are published already, one open file each: raise LimitNOFILE of \
             ciao-net.service",
            self.most
        );
        let Some(port) = self.kernel.hold_port(protocol, address, number)? else { return Ok(None) };
        let number = port.number;
        lock(&self.held).insert((protocol, address, number), port);
        Ok(Some(number))
    }

    /// Holds recorded ports, after a start. One that another program took meanwhile is logged.
    pub(crate) fn hold_recorded(&self, ports: &[Port]) {
        for port in ports {
            match self.hold(port.protocol, port.host_address, port.host_port) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    log::warn!("published port {}/{} is in use by another program", port.host_port, port.protocol);
                }
                Err(error) => log::warn!("published port {}/{}: {error:#}", port.host_port, port.protocol),
            }
        }
    }

    /// Holds the recorded ports that are not held, because another program had them when they were to be.
    pub(crate) fn hold_missing(&self) -> Result<()> {
        let recorded = |port: &Port| self.store.read(|tx| tx.port_at(port.protocol, port.host_address, port.host_port));
        for port in self.store.read(|tx| tx.ports())? {
            let is_held = lock(&self.held).contains_key(&(port.protocol, port.host_address, port.host_port));
            if is_held || self.hold(port.protocol, port.host_address, port.host_port)?.is_none() {
                continue;
            }
            // It may have been revoked meanwhile.
            if recorded(&port)?.is_none() {
                self.release(&port);
            } else {
                log::info!("published port {}/{} is held again", port.host_port, port.protocol);
            }
        }
        Ok(())
    }

    /// Lets another program use a port.
    pub(crate) fn release(&self, port: &Port) {
        lock(&self.held).remove(&(port.protocol, port.host_address, port.host_port));
    }

    /// Forwards ports of one endpoint, which are held.
    pub(crate) fn open(&self, ports: &[Port]) -> Result<()> {
        self.set_elements(ports, Change::Add)?;
        self.forget_flows(ports)
    }

    /// Stops forwarding ports of one endpoint, whose records are deleted, and releases them.
    pub(crate) fn close(&self, ports: &[Port]) -> Result<()> {
        let closed = self.set_elements(ports, Change::Delete).and_then(|()| self.forget_flows(ports));
        // Only now: whoever gets the port next adds elements with the same keys.
        ports.iter().for_each(|port| self.release(port));
        closed
    }

    /// Removes the flows to ports that were opened or closed just now: where a flow's datagrams go was decided at its
    /// first one. A TCP connection ends with its container, and a new one begins with a new decision.
    fn forget_flows(&self, ports: &[Port]) -> Result<()> {
        let Some(first) = ports.first() else { return Ok(()) };
        let lasting = || ports.iter().filter(|port| port.protocol != Protocol::Tcp);
        if lasting().next().is_none() {
            return Ok(());
        }
        let outer = lasting().map(|port| (port.protocol.number(), port.host_port)).collect();
        let inner = lasting().map(|port| (port.protocol.number(), port.inner_port)).collect();
        let mut addresses: BTreeSet<_> = ports.iter().map(|port| port.host_address).collect();
        if addresses.iter().any(IpAddr::is_unspecified) {
            addresses.extend(self.kernel.host_addresses()?.into_iter().map(|(_, address)| address));
        }
        self.kernel
            .forget_flows(&Namespace::Host, &Flows::To { addresses, ports: outer })
            .context("remove flows to published ports")?;
        let Some(uplink) = self.store.read(|tx| tx.uplink(&first.namespace))? else { return Ok(()) };
        if !self.kernel.has_namespace(&first.namespace)? {
            return Ok(());
        }
        let addresses = [false, true].map(|v6| self.pool.inner_address(uplink.number, v6)).into();
        self.kernel
            .forget_flows(&Namespace::Named(first.namespace.clone()), &Flows::To { addresses, ports: inner })
            .context("remove a tenant's flows to published ports")
    }

    fn set_elements(&self, ports: &[Port], change: Change) -> Result<()> {
        let Some(first) = ports.first() else { return Ok(()) };
        let inner: Vec<_> = ports.iter().map(rules::inner_port).collect();
        // Both are tried: the records are written, and nobody repeats this.
        let inner = self.set_inner(&first.namespace, &inner, change);
        inner.and(self.set_outer(&first.namespace, ports, change)).inspect_err(|_| {
            self.tenant_rules.forget_generation(&first.namespace);
            self.host_rules.forget_generation();
        })
    }

    fn set_inner(&self, namespace: &str, elements: &[Element], change: Change) -> Result<()> {
        if !self.kernel.has_namespace(namespace)? {
            return Ok(());
        }
        let changed = self.tenant_rules.change(namespace, elements, change);
        changed.context("forward published ports to the container")
    }

    fn set_outer(&self, namespace: &str, ports: &[Port], change: Change) -> Result<()> {
        let Some(uplink) = self.store.read(|tx| tx.uplink(namespace))? else { return Ok(()) };
        let address = |port: &Port| self.pool.inner_address(uplink.number, port.host_address.is_ipv6());
        let outer: Vec<_> = ports.iter().map(|port| rules::outer_port(port, address(port))).collect();
        if change == Change::Add || self.host_rules.exist()? {
            self.host_rules.change(&outer, change).context("publish ports on the host")?;
        }
        Ok(())
    }
}
