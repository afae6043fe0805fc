// SPDX-License-Identifier: Apache-2.0
//! A swarm's `AllocateNetwork` and `FreeNetwork`, and which nodes it has.

use anyhow::Result;
use ciao_common::api::Empty;
use ciao_common::api::network::{AllocateReply, CreateNetwork, Discovery, MTU, NetworkRef};
use ciao_common::store::Absence;

use crate::Driver;
use crate::docker::network::spread_mtu;
use crate::docker::options::NetworkOptions;

/// The option with a network's VXLAN network identifier.
const VNI: &str = "vni";

impl Driver {
    /// `NetworkDriver.AllocateNetwork`, on a swarm's leader: checks the options and hands them back, because the nodes'
    /// `CreateNetwork` gets what is answered here and nothing else. Where hosts announce their addresses, VNI and MTU
    /// of a tenant's network are decided here, once for all nodes: a new leader gets them with the options.
    ///
    /// # Errors
    /// Invalid options; a VNI of another network.
    pub fn allocate_network(&self, request: CreateNetwork) -> Result<AllocateReply> {
        let mut options = request.options.generic();
        let top = request.options.texts();
        options.extend(
            top.into_iter().filter(|(key, _)| !key.starts_with("com.docker.network.") || key.ends_with("driver.mtu")),
        );
        let has = ["tenant", "host_bridge", VNI].map(|option| options.get(option).is_some_and(|text| !text.is_empty()));
        let is_spread = self.config.hosts_file.is_some() && has[..2] == [true, false];
        let allocates = is_spread && !has[2];
        if allocates {
            // Others have a meaning with one alone.
            options.insert(VNI.to_owned(), "1".to_owned());
        }
        let parsed = NetworkOptions::parse_generic(&options, false)?;
        let Some(vni) = parsed.vni.filter(|_| is_spread) else { return Ok(AllocateReply { options }) };
        let id = request.network_id;
        let (vni, mtu) = self.store.write(move |tx| {
            let mtu = parsed.mtu.map_or_else(|| spread_mtu(tx, &parsed), |_| Ok(None))?;
            match allocates {
                true => Ok((tx.allocate_vni(&id)?, mtu)),
                false => tx.record_vni(&id, vni).map(|()| (vni, mtu)),
            }
        })?;
        options.insert(VNI.to_owned(), vni.to_string());
        options.extend(mtu.map(|mtu| (MTU.to_owned(), mtu.to_string())));
        Ok(AllocateReply { options })
    }

    /// `NetworkDriver.FreeNetwork`: on a swarm's leader, before the nodes delete the network.
    pub fn free_network(&self, request: NetworkRef) -> Result<Empty> {
        if self.config.hosts_file.is_some() {
            self.store.write(move |tx| tx.forget_vni(&request.network_id))?;
        }
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

    /// Another node: if it is a host of the exchange, it is accepted there or not. This node: its engine starts or
    /// finds the plugin enabled, and reports all nodes that are there, or none; what it reported before counts no more.
    fn note_node(&self, discovery: &Discovery, is_gone: bool) -> Result<Empty> {
        const NODE: i64 = 1;
        let node = &discovery.discovery_data;
        let Some(address) = node.address.filter(|_| discovery.discovery_type == NODE) else { return Ok(Empty {}) };
        let what = if node.is_self { "own swarm node" } else { "swarm node" };
        log::info!("{what} {address} {}", if is_gone { "left" } else { "joined" });
        if self.config.hosts_file.is_some() {
            let is_self = node.is_self;
            self.store.write(move |tx| {
                if is_self {
                    return if is_gone { Ok(()) } else { tx.clear_gone() };
                }
                let host = tx.cluster_hosts()?.into_iter().find(|host| host.address == address);
                host.map_or(Ok(()), |host| tx.set_absent(&host.id, Absence::Gone, is_gone).map(drop))
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
