// SPDX-License-Identifier: Apache-2.0
//! Records that were lost with the database, made again while containers run: from Docker's list, and from what the
//! aliases of links say. What cannot be known again is a row with an error.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ciao_common::api::listing::{ListedEndpoint, ListedNetwork, is_plugin};
use ciao_common::store::{AddressKind, Egress, Endpoint, Network, Owner, Tx, Vnic};
use ciao_common::types::{NetworkId, PoolId, Subnet};

use super::found::{Found, FoundSubnet};
use super::pools::{WHY, grant, is_alike, pool_again};
use super::repairs::Repairs;
use super::{Known, Recorded};
use crate::Driver;
use crate::docker::network::record_again;

impl Driver {
    /// Looks for lost records, and with Docker's list makes those of its networks and endpoints again, and of
    /// launchers' VNICs, which may have none.
    pub(super) fn rebuild(&self, repairs: &mut Repairs<'_>, docker: Option<&Known>) {
        repairs.step("lost records", self.fabric.lost.look());
        let Some(known) = docker else { return };
        if known.first {
            self.fabric.lost.begin_list();
        }
        let is_own = |network: &&ListedNetwork| network.driver.is_empty() || is_plugin(&network.driver, "ciao-net");
        let (own, others): (Vec<_>, Vec<_>) = known.details.iter().partition(is_own);
        let is_alone = |network: &ListedNetwork| !known.more && !is_alike(network, &others);
        let rebuilt = self.rebuild_listed(repairs, &own, is_alone);
        repairs.step("records of Docker's networks", rebuilt);
        let rebuilt = self.rebuild_pools(repairs, known, &others);
        repairs.step("pools of other drivers' networks", rebuilt);
        self.complete_pools(repairs, known);
    }

    /// After the last part of a list with details, if all of it was recorded, every address in use is known.
    fn complete_pools(&self, repairs: &mut Repairs<'_>, known: &Known) {
        let is_whole = self.fabric.lost.finish_part(!known.details.is_empty(), !repairs.has_failed(), known.more);
        if is_whole && !repairs.dry {
            let completed = self.store.write(|tx| tx.complete_sets());
            repairs.step("pools of Docker's networks", completed);
        }
    }

    fn rebuild_listed(
        &self,
        repairs: &mut Repairs<'_>,
        listed: &[&ListedNetwork],
        is_alone: impl Fn(&ListedNetwork) -> bool,
    ) -> Result<()> {
        let Recorded { networks, endpoints } = self.recorded()?;
        if !self.fabric.lost.is_any() && listed.iter().all(|network| networks.contains(&network.id)) {
            return Ok(());
        }
        let links: BTreeSet<_> = self.store.read(|tx| tx.vnic_links())?.into_iter().collect();
        let found = Arc::new(self.find()?);
        // A network may get its tenant from them. One that a container has is recorded with its network: were that
        // recorded alone, nothing would show that the network's record is missing.
        for vnic in found.launchers(false).filter(|vnic| !links.contains(&vnic.host_link)) {
            let (what, vnic) = (format!("VNIC {}", vnic.id), vnic.clone());
            repairs.repair("record", what, WHY, |driver| driver.store.write(move |tx| vnic_again(tx, &vnic)));
        }
        // A swarm's manager lists networks of other nodes too.
        let is_here = |network: &&ListedNetwork| {
            network.scope != "swarm" || !network.containers.is_empty() || found.subnets(&network.id).is_some()
        };
        for network in listed.iter().copied().filter(is_here) {
            let what = format!("network {}", network.id.short());
            let is_alone = is_alone(network);
            let again = |driver: &Driver| driver.rebuild_network(network.clone(), Arc::clone(&found), is_alone);
            if !networks.contains(&network.id) && !repairs.repair("record", what, WHY, again) {
                continue;
            }
            let lost = |listed: &&ListedEndpoint| !endpoints.contains(&listed.endpoint_id);
            for endpoint in network.containers.values().filter(lost) {
                let (what, of) = (format!("endpoint {}", endpoint.endpoint_id.short()), network.id.clone());
                repairs.repair("record", what, WHY, |driver| {
                    driver.rebuild_endpoint(of, endpoint.clone(), Arc::clone(&found))
                });
            }
        }
        self.fabric.lost.look()
    }

    /// A network, its pools, and the addresses in use there, those of endpoints that cannot be recorded too.
    fn rebuild_network(&self, listed: ListedNetwork, found: Arc<Found>, is_alone: bool) -> Result<bool> {
        let uplinks = self.fabric.uplinks.pool;
        if listed.options.contains_key("vni") && !self.fabric.tunnels.are_hosts_known()? {
            let is_alone = self.fabric.kernel.tunnel_hosts()?.is_empty();
            ensure!(
                is_alone,
                "it reaches over several hosts: let the controller give its lists again first, then run this again"
            );
        }
        self.store.write(move |tx| {
            if tx.network(&listed.id)?.is_some() {
                return Ok(false);
            }
            let described = found.subnets(&listed.id).unwrap_or_default();
            let mut data = Vec::new();
            for subnet in &listed.ipam.config {
                let is_meant = |(gateway, pool): &&FoundSubnet| {
                    let pool = pool.as_ref().and_then(PoolId::description).map(|pool| pool.subnet);
                    pool == Some(subnet.subnet) || gateway.is_some_and(|gateway| subnet.subnet.contains(gateway))
                };
                let (gateway, pool) = described.iter().find(is_meant).cloned().unwrap_or_default();
                let gateway = subnet.gateway().or(gateway);
                let mut space = "LocalDefault".to_owned();
                if is_plugin(&listed.ipam.driver, "ciao-ipam") {
                    let pool = pool_again(tx, &listed, subnet, pool, is_alone)?;
                    if let Some(gateway) = gateway {
                        grant(tx, &pool, gateway, AddressKind::Gateway)?;
                    }
                    space = if pool.nonce.is_empty() { "local".to_owned() } else { format!("local.{}", pool.nonce) };
                }
                data.push(subnet.data(space, gateway)?);
            }
            found
                .launchers(true)
                .filter(|vnic| is_for(vnic, &listed))
                .try_for_each(|vnic| vnic_again(tx, vnic).map(drop))?;
            let network = record_again(tx, &listed.creation(data)?, &uplinks)?;
            if let Some(uplink) = network.namespace.as_ref().and_then(|name| found.uplinks.get(name))
                && tx.uplink(&uplink.namespace)?.is_none()
            {
                tx.insert_uplink(uplink)?;
            }
            let in_use = listed.containers.values().flat_map(ListedEndpoint::addresses).flatten();
            let aux = network.subnets.iter().flat_map(|subnet| subnet.aux.clone());
            in_use.chain(aux).try_for_each(|address| lease(tx, &network, address))?;
            Ok(true)
        })
    }

    /// An endpoint, with its VNIC and published ports.
    fn rebuild_endpoint(&self, network: NetworkId, listed: ListedEndpoint, found: Arc<Found>) -> Result<bool> {
        let publishes = listed.publishes;
        let recorded = self.store.write(move |tx| {
            if tx.endpoint(&listed.endpoint_id)?.is_some() {
                return Ok(None);
            }
            let network = tx.network(&network)?.context("its network is not recorded")?;
            let [address, address6] = listed.addresses();
            let vnic = found.vnic(network.namespace.as_deref(), &network.bridge, [address, address6]);
            let vnic = vnic.with_context(|| {
                format!("no link on bridge {} has an alias with its addresses: restart its container", network.bridge)
            })?;
            let of = Some(network.id.clone()).filter(|_| vnic.owner == Owner::Docker);
            vnic_again(tx, &Vnic { network: of, ..vnic.clone() })?;
            let ports = found.ports(vnic, &listed.endpoint_id);
            let is_silent = publishes && network.egress == Egress::Nat && !found.is_published(vnic);
            let (created, attached) = (tx.now(), Some(tx.now()));
            let (id, vnic, of) = (listed.endpoint_id.clone(), vnic.id.clone(), network.id.clone());
            tx.insert_endpoint(&Endpoint {
                id,
                network: of,
                vnic,
                address,
                address6,
                interface: None,
                created,
                attached,
            })?;
            [address, address6].into_iter().flatten().try_for_each(|address| lease(tx, &network, address))?;
            ports.iter().try_for_each(|port| tx.insert_port(port))?;
            Ok(Some((ports, is_silent)))
        })?;
        let Some((ports, is_silent)) = recorded else { return Ok(false) };
        self.fabric.ports.hold_recorded(&ports);
        ensure!(!is_silent, "it is recorded, but no rule publishes ports of its container: restart the container");
        Ok(true)
    }
}

/// Records a VNIC, unless it is recorded. `true`: now.
fn vnic_again(tx: &Tx<'_>, vnic: &Vnic) -> Result<bool> {
    let is_lost = tx.vnic(&vnic.id)?.is_none();
    if is_lost {
        tx.insert_vnic(vnic)?;
    }
    Ok(is_lost)
}

/// Whether a launcher's VNIC was made for a network: it is on its bridge, in one of its subnets, and the tenant's that
/// the network may name.
fn is_for(vnic: &Vnic, network: &ListedNetwork) -> bool {
    let option = |name: &str| network.options.get(name).map(String::as_str);
    let is_subnet = |subnet: Subnet| network.ipam.config.iter().any(|listed| listed.subnet == subnet);
    option("bridge").or(option("host_bridge")) == Some(vnic.bridge.as_str())
        && option("tenant").is_none_or(|tenant| vnic.tenant.as_ref().is_some_and(|own| own.as_str() == tenant))
        && [vnic.v4, vnic.v6].into_iter().flatten().any(|(subnet, _)| is_subnet(subnet))
}

/// Grants an address of a network to an endpoint, unless it is granted.
fn lease(tx: &Tx<'_>, network: &Network, address: IpAddr) -> Result<()> {
    let Some(subnet) = network.subnets.iter().find(|subnet| subnet.subnet.contains(address)) else { return Ok(()) };
    let pool = subnet.pool.as_ref().map(|id| tx.pool_by_id(id)).transpose()?.flatten();
    pool.map_or(Ok(()), |pool| grant(tx, &pool, address, AddressKind::Lease))
}
