// SPDX-License-Identifier: Apache-2.0
//! A swarm's `AllocateNetwork` and `FreeNetwork`, and which nodes it has.

use std::net::IpAddr;

use anyhow::Result;
use ciao_common::api::Empty;
use ciao_common::api::network::{AllocateReply, CreateNetwork, Discovery, NetworkRef};
use ciao_common::store::Absence;

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
        self.note_node(&request, false)
    }

    /// `NetworkDriver.DiscoverDelete`: a node left, or its engine is silent while its containers run.
    pub fn discover_delete(&self, request: Discovery) -> Result<Empty> {
        self.note_node(&request, true)
    }

    /// Another node: if it is a host of the exchange, it is accepted there or not.
    fn note_node(&self, discovery: &Discovery, is_gone: bool) -> Result<Empty> {
        let Some(address) = node(discovery) else { return Ok(Empty {}) };
        log::info!("swarm node {address} {}", if is_gone { "left" } else { "joined" });
        if self.config.hosts_file.is_some() {
            self.store.write(move |tx| {
                let host = tx.cluster_hosts()?.into_iter().find(|host| host.address == address);
                host.map_or(Ok(false), |host| tx.set_absent(&host.id, Absence::Gone, is_gone))
            })?;
        }
        Ok(Empty {})
    }

    /// Forgets the addresses of nodes that left a day ago.
    pub(crate) fn forget_gone_nodes(&self) -> Result<()> {
        const DAY: i64 = 24 * 60 * 60 * 1000;
        let long_ago = self.store.now() - DAY;
        if !self.store.read(|tx| tx.has_gone_peers(long_ago))? {
            return Ok(());
        }
        let tenants = self.store.write(move |tx| tx.forget_gone_peers(long_ago))?;
        let failed = tenants.iter().filter_map(|tenant| self.fabric.follow_tenant(tenant).err());
        failed.last().map_or(Ok(()), Err)
    }
}

/// The address of the node, if it is another one.
fn node(discovery: &Discovery) -> Option<IpAddr> {
    const NODE: i64 = 1;
    let other = discovery.discovery_type == NODE && !discovery.discovery_data.is_self;
    discovery.discovery_data.address.filter(|_| other)
}
