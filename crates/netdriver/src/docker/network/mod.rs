// SPDX-License-Identifier: Apache-2.0
//! `CreateNetwork` and `DeleteNetwork`.

mod check;
mod record;
mod request;

use std::sync::Arc;

use anyhow::{Context, Result};
use ciao_common::api::Empty;
use ciao_common::api::network::{CreateNetwork, NetworkRef};
use ciao_common::store::Network;

use crate::Driver;
use crate::attachment::detach;
use crate::rollback::rolled_back;
use crate::uplink_pool::UplinkPool;
use check::check_underlay;
use record::{RecordedNetwork, record};
use request::NetworkRequest;

pub(crate) use check::spread_mtu;
pub(crate) use record::record_again;

impl Driver {
    /// `NetworkDriver.CreateNetwork`: records the network, then makes its namespace, bridge and gateway.
    ///
    /// # Errors
    /// Invalid options; the ID of another network; a subnet that overlaps another one of the tenant; a tenant that was
    /// passed to only one of the two drivers.
    pub fn create_network(&self, call: CreateNetwork) -> Result<Empty> {
        let request = NetworkRequest::parse(&call)?;
        self.fabric.lost.refuse()?;
        if let Some(bridge) = &request.options.bridge {
            self.fabric.bridges.check(bridge, request.options.on_host)?;
        }
        let (id, options) = (&request.id, &request.options);
        if options.vni.is_some() && self.store.read(|tx| tx.network(id))?.is_none() {
            if options.encrypted {
                self.fabric.tunnels.check_encrypted().context("--opt encrypted=required")?;
            }
            let mtu = self.store.read(|tx| spread_mtu(tx, options))?;
            mtu.map_or(Ok(()), |mtu| check_underlay(&self.fabric, mtu))?;
        }
        // Before the record, which would be taken for one of before the start.
        self.fabric.restore_shared();
        let pool = self.fabric.uplinks.pool;
        let (network, made, superseded) = self.record_network(request, pool)?;
        if made && network.namespace.is_none() {
            log::warn!(
                "network {} is on bridge {} of the host: no isolation and no anti-spoofing for its \
                 containers",
                network.id.short(),
                network.bridge
            );
        }
        let tidied = superseded.iter().try_for_each(|network| self.fabric.forget_remote(network));
        let ensured = tidied.and_then(|()| self.fabric.restored(network.namespace.as_deref()));
        let lock = self.fabric.lock(network.namespace.as_deref());
        let ensured = ensured.and_then(|()| self.fabric.networks.ensure(&network));
        let ensured = ensured.map_err(|error| if made { rolled_back(error, self.forget(&network)) } else { error });
        drop(lock);
        self.follow_networks(&network);
        ensured.map(|()| Empty {})
    }

    /// What is on other hosts of a network's tenant: it depends on what is on this one.
    fn follow_networks(&self, network: &Network) {
        let Some(tenant) = &network.tenant else { return };
        if let Err(error) = self.fabric.follow_networks(tenant) {
            log::warn!("update networks of tenant {tenant} on other hosts: {error:#}; retried by the next reconcile");
        }
    }

    /// Records a network, or finds it recorded. `true`: it is new, in place of these networks on other hosts.
    fn record_network(&self, request: NetworkRequest, pool: UplinkPool) -> Result<(Network, bool, Vec<Network>)> {
        let request = Arc::new(request);
        let mut contest = None;
        loop {
            let again = Arc::clone(&request);
            match self.store.write(move |tx| record(tx, &again, &pool))? {
                RecordedNetwork::Known(network) => return Ok((*network, false, Vec::new())),
                RecordedNetwork::New(network, superseded) => return Ok((*network, true, superseded)),
                RecordedNetwork::Contested(subnet) => contest = Some(self.contests.wait(contest, subnet)?),
            }
        }
    }

    /// `NetworkDriver.DeleteNetwork`: deletes the network, and its bridge unless it is one of the host or still has
    /// another network or a VNIC.
    ///
    /// An unknown network is no error, and one with endpoints neither: Docker no longer has it.
    pub fn delete_network(&self, request: NetworkRef) -> Result<Empty> {
        let id = request.network_id;
        let Some(network) = self.store.read(|tx| tx.network(&id))? else {
            log::info!("network {} is unknown: nothing to delete", id.short());
            return Ok(Empty {});
        };
        let lock = self.fabric.lock(network.namespace.as_deref());
        let forgotten = self.forget(&network);
        drop(lock);
        self.follow_networks(&network);
        forgotten.map(|()| Empty {})
    }

    /// Takes a network's record, what is left of its endpoints, and its part of the kernel away. The caller has the
    /// namespace's lock.
    fn forget(&self, network: &Network) -> Result<()> {
        let id = network.id.clone();
        let detached = self.store.write(move |tx| {
            let mut detached = Vec::new();
            for endpoint in tx.endpoints_of_network(&id)? {
                log::info!("endpoint {} deleted with its network {}", endpoint.id.short(), id.short());
                detached.push(detach(tx, &endpoint)?);
            }
            tx.delete_network(&id)?;
            Ok(detached)
        })?;
        detached.into_iter().for_each(|detached| self.clean_up(detached));
        self.fabric.networks.tidy(network)
    }
}
