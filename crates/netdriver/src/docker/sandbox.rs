// SPDX-License-Identifier: Apache-2.0
//! `Join` and `Leave`: handing the link over to a container's sandbox.

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::Empty;
use ciao_common::api::endpoint::{EndpointRef, InterfaceName, JoinReply, SandboxRequest, StaticRoute};
use ciao_common::store::{Egress, Network, Route, Vnic};
use ciao_common::types::LinkName;

use crate::attachment::lookup;
use crate::docker::options::prefix_of;
use crate::docker::ports;
use crate::kernel::LinkLocation;
use crate::{Driver, fabric};

/// libnetwork's numbers for kinds of routes.
const NEXT_HOP: u8 = 0;
const CONNECTED: u8 = 1;

impl Driver {
    /// `NetworkDriver.Join`: returns the link, its name in the container, gateways and routes. A link that is missing,
    /// after a reboot or a killed dockerd, is created again from its record.
    ///
    /// # Errors
    /// An unknown network or endpoint; a link that a container has already.
    pub fn join(&self, request: SandboxRequest) -> Result<JoinReply> {
        let (endpoint, vnic, network) = self.store.read(|tx| {
            let (endpoint, vnic) = lookup(tx, &request.endpoint_id)?;
            let network = tx.network(&endpoint.network)?;
            Ok((endpoint, vnic, network))
        })?;
        let network =
            network.with_context(|| format!("network {} is unknown: it was deleted", request.network_id.short()))?;
        ensure!(
            network.id == request.network_id,
            "endpoint {} is of network {}, not of {}",
            endpoint.id.short(),
            network.id.short(),
            request.network_id.short()
        );
        self.fabric.restored(network.namespace.as_deref())?;
        self.hand_over(&network, &vnic)?;
        if network.egress == Egress::None {
            // An --internal network, or its ports would have been refused before: Docker publishes nothing there
            // either, and a container with ports on another network is no error.
            for binding in ports::bindings(&request.options)? {
                log::warn!(
                    "endpoint {}: port {} is not published by network {}, which has egress=none",
                    endpoint.id.short(),
                    binding.port,
                    network.id.short()
                );
            }
        }
        Ok(reply(&network, &vnic, endpoint.interface))
    }

    /// What [`Self::join`] answers, where that is known without a look at the records.
    pub fn join_ready(&self, request: &SandboxRequest) -> Option<JoinReply> {
        self.ready.answer(&*self.fabric.kernel, request)
    }

    /// Sees to it that the container's end is where the engine looks for it.
    fn hand_over(&self, network: &Network, vnic: &Vnic) -> Result<()> {
        match self.fabric.kernel.locate(&fabric::veth(vnic))? {
            LinkLocation::Host(Some(mac)) if mac == vnic.mac => Ok(()),
            LinkLocation::Container => {
                bail!(
                    "link {} of VNIC {} is in a running container: stop that container first",
                    vnic.container_link,
                    vnic.id
                )
            }
            LinkLocation::Host(_) | LinkLocation::Absent => {
                log::info!("links of VNIC {} are missing or changed: created again", vnic.id);
                let _lock = self.fabric.lock(vnic.namespace.as_deref());
                self.fabric.networks.ensure(network)?;
                self.fabric.vnics.ensure(vnic).map(drop)
            }
        }
    }

    /// `NetworkDriver.Leave`: nothing to do. The engine gives the link back afterwards.
    pub fn leave(&self, _request: &EndpointRef) -> Empty {
        Empty {}
    }
}

/// The reply to `Join` for a network's VNIC, with the interface's name in the container if the user gave one.
pub(crate) fn reply(network: &Network, vnic: &Vnic, dst_name: Option<LinkName>) -> JoinReply {
    let gateways_are_used = matches!(network.egress, Egress::Nat | Egress::Gateway);
    let gateway = |v4: bool| {
        let mut gateways = network.subnets.iter().filter_map(|subnet| subnet.gateway);
        gateways.find(|gateway| gateways_are_used && gateway.is_ipv4() == v4)
    };
    let (gateway, gateway_ipv6) = (gateway(true), gateway(false));
    JoinReply {
        interface_name: InterfaceName {
            src_name: vnic.container_link.clone(),
            dst_prefix: dst_name.as_ref().map_or(network.dst_prefix.as_str(), prefix_of).to_owned(),
            dst_name,
        },
        // Without gateway and without this field the engine adds an interface on docker_gwbridge.
        disable_gateway_service: network.egress != Egress::Docker && gateway.is_none() && gateway_ipv6.is_none(),
        gateway,
        gateway_ipv6,
        static_routes: network.routes.iter().map(route).collect(),
    }
}

fn route(route: &Route) -> StaticRoute {
    let route_type = if route.next_hop.is_some() { NEXT_HOP } else { CONNECTED };
    StaticRoute { destination: route.destination, route_type, next_hop: route.next_hop }
}
