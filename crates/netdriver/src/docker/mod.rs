// SPDX-License-Identifier: Apache-2.0
//! The table of calls. The set of paths is the driver's whole plugin interface.

pub(crate) mod endpoint;
pub(crate) mod network;
pub mod options;
pub(crate) mod pairing;
mod ports;
mod sandbox;
mod swarm;

use std::sync::Arc;

use anyhow::Result;
use ciao_common::api::network::{Capabilities, GwAllocReply};
use ciao_common::serve::plugin::Plugin;
use ciao_common::store::Scope;

use crate::Driver;

impl Driver {
    /// `NetworkDriver.GetCapabilities`: an engine asks when it starts. It is answered on a full disk too.
    fn capabilities(&self) -> impl Future<Output = Result<Capabilities>> + Send + use<> {
        // Docker reports a swarm's nodes by DiscoverNew and DiscoverDelete to a driver of this connectivity alone.
        let connectivity = if self.config.hosts_file.is_some() { Scope::Global } else { self.config.scope };
        let (scope, connectivity_scope) = (self.config.scope.to_string(), connectivity.to_string());
        let recorded = self.store.begin(|tx| tx.set_engine_started());
        async move {
            if let Err(error) = recorded.await {
                log::warn!("record that the engine started: {error:#}");
            }
            Ok(Capabilities { scope, connectivity_scope, gw_alloc_checker: true })
        }
    }
}

/// The driver as a plugin.
pub fn plugin(driver: Arc<Driver>) -> Plugin<Arc<Driver>> {
    Plugin::new("NetworkDriver", driver)
        .change_without_argument("/NetworkDriver.GetCapabilities", |driver| driver.capabilities())
        // The gateway's address is never a container's, used or not: so it is with all engines.
        .constant("/NetworkDriver.GwAllocCheck", |_| GwAllocReply { skip_ipv4: false, skip_ipv6: false })
        .call("/NetworkDriver.AllocateNetwork", |d, q| d.allocate_network(q))
        .call("/NetworkDriver.FreeNetwork", |d, q| d.free_network(q))
        .call("/NetworkDriver.CreateNetwork", |d, q| d.create_network(q))
        .call("/NetworkDriver.DeleteNetwork", |d, q| d.delete_network(q))
        .call("/NetworkDriver.CreateEndpoint", |d, q| d.create_endpoint(q))
        .call("/NetworkDriver.DeleteEndpoint", |d, q| d.delete_endpoint(q))
        .call("/NetworkDriver.EndpointOperInfo", |d, q| d.endpoint_oper_info(q))
        .call_unless_ready("/NetworkDriver.Join", |d, q| d.join_ready(q), |d, q| d.join(q))
        .call_unless_ready("/NetworkDriver.Leave", |d, q| Some(d.leave(q)), |d, q| Ok(d.leave(&q)))
        .call("/NetworkDriver.ProgramExternalConnectivity", |d, q| d.program_external_connectivity(q))
        .call("/NetworkDriver.RevokeExternalConnectivity", |d, q| d.revoke_external_connectivity(q))
        .call("/NetworkDriver.DiscoverNew", |d, q| d.discover_new(q))
        .call("/NetworkDriver.DiscoverDelete", |d, q| d.discover_delete(q))
}
