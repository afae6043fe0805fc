// SPDX-License-Identifier: Apache-2.0
//! A swarm's `AllocateNetwork` and `FreeNetwork`, and which nodes it has.

use std::net::IpAddr;

use anyhow::Result;
use ciao_common::api::Empty;
use ciao_common::api::network::{AllocateReply, CreateNetwork, Discovery, NetworkRef};

use crate::Driver;
use crate::docker::options::NetworkOptions;

impl Driver {
    /// `NetworkDriver.AllocateNetwork`, on a swarm's leader: checks the options and hands them back, because the nodes'
    /// `CreateNetwork` gets what is answered here and nothing else.
    pub fn allocate_network(&self, request: CreateNetwork) -> Result<AllocateReply> {
        let mut options = request.options.generic();
        let top = request.options.texts();
        options.extend(
            top.into_iter().filter(|(key, _)| !key.starts_with("com.docker.network.") || key.ends_with("driver.mtu")),
        );
        NetworkOptions::parse_generic(&options, false)?;
        Ok(AllocateReply { options })
    }

    /// `NetworkDriver.FreeNetwork`: nothing was kept.
    pub fn free_network(&self, _request: NetworkRef) -> Result<Empty> {
        Ok(Empty {})
    }

    /// `NetworkDriver.DiscoverNew`: a node joined the swarm.
    pub fn discover_new(&self, request: Discovery) -> Result<Empty> {
        log_node(&request, "joined");
        Ok(Empty {})
    }

    /// `NetworkDriver.DiscoverDelete`: a node left.
    pub fn discover_delete(&self, request: Discovery) -> Result<Empty> {
        log_node(&request, "left");
        Ok(Empty {})
    }
}

/// Logs another node: nothing of this host depends on it.
fn log_node(discovery: &Discovery, what: &str) {
    if let Some(address) = node(discovery) {
        log::info!("swarm node {address} {what}");
    }
}

/// The address of the node, if it is another one.
fn node(discovery: &Discovery) -> Option<IpAddr> {
    const NODE: i64 = 1;
    let other = discovery.discovery_type == NODE && !discovery.discovery_data.is_self;
    discovery.discovery_data.address.filter(|_| other)
}
