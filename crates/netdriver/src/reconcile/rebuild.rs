// SPDX-License-Identifier: Apache-2.0
//! Records that were lost with the database, made again while containers run: from Docker's list, and from what the
//! aliases of links say. What cannot be known again is a row with an error.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::listing::{ListedEndpoint, ListedNetwork, ListedSubnet};
use ciao_common::store::{AddressKind, Egress, Endpoint, Network, Owner, Pool, Tx, Uplink, Vnic};
use ciao_common::types::{AddressSpace, LinkName, NetworkId, PoolId, Scope};

use super::Repairs;
use crate::docker::network::record_again;
use crate::kernel::Namespace;
use crate::kernel::state::Seen;
use crate::{Driver, alias, names};

const WHY: &str = "its record was lost";

/// What links say.
#[derive(Default)]
struct Found {
    /// Of bridges.
    aliases: Vec<String>,
    vnics: Vec<Vnic>,
    /// By namespace.
    uplinks: BTreeMap<String, Uplink>,
}

impl Driver {
    /// Makes the records of networks and endpoints that Docker lists again, and of launchers' VNICs, where they are missing.
    pub(super) fn rebuild(&self, repairs: &mut Repairs<'_>, listed: &[ListedNetwork]) {
        let rebuilt = self.rebuild_listed(repairs, listed);
        repairs.step("records of Docker's networks", rebuilt);
    }

    fn rebuild_listed(&self, repairs: &mut Repairs<'_>, listed: &[ListedNetwork]) -> Result<()> {
        let (networks, endpoints, links) =
            self.store.read(|tx| Ok((tx.networks()?, tx.endpoints()?, tx.vnic_links()?)))?;
        let networks: BTreeSet<_> = networks.into_iter().map(|network| network.id).collect();
        if !self.fabric.lost.is_any() && listed.iter().all(|network| networks.contains(&network.id)) {
            return Ok(());
        }
        let endpoints: BTreeSet<_> = endpoints.into_iter().map(|endpoint| endpoint.id).collect();
        let links: BTreeSet<_> = links.into_iter().collect();
        let found = Arc::new(self.find()?);
        // A network may get its tenant from them.
        let launchers = found.vnics.iter().filter(|vnic| vnic.owner == Owner::Launcher);
        for vnic in launchers.filter(|vnic| !links.contains(&vnic.host_link)) {
            repairs.repair("record", format!("VNIC {}", vnic.id), WHY, |driver| driver.rebuild_vnic(vnic.clone()));
        }
        for network in listed {
            let what = format!("network {}", network.id.short());
            let again = |driver: &Driver| driver.rebuild_network(network.clone(), Arc::clone(&found));
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

    /// Reads all links of ours.
    fn find(&self) -> Result<Found> {
        let mut found = Found::default();
        let host = self.fabric.kernel.look(&Namespace::Host)?.unwrap_or_default();
        for namespace in self.fabric.kernel.namespaces()? {
            let Some(seen) = self.fabric.kernel.look(&Namespace::Named(namespace.clone()))? else { continue };
            for (name, link) in &seen.links {
                let text = link.alias.as_deref().unwrap_or_default();
                match &link.bridge {
                    Some(bridge) => found.vnics.extend(alias::vnic(text, name, &namespace, bridge)),
                    None if link.is_bridge => found.aliases.push(text.to_owned()),
                    None => {}
                }
            }
            if let Some(uplink) = self.find_uplink(&namespace, &seen, &host) {
                found.uplinks.insert(namespace, uplink);
            }
        }
        Ok(found)
    }

    fn find_uplink(&self, namespace: &str, seen: &Seen, host: &Seen) -> Option<Uplink> {
        let pool = self.fabric.uplinks.pool();
        let mut inner = seen.addresses.iter().filter(|(link, _)| link.as_str() == names::INNER_LINK);
        let (number, outer) = inner.find_map(|(_, address)| pool.pair_of(*address))?;
        let is_outer = |(link, address): &&(LinkName, IpAddr)| *address == outer && names::is_ours(link);
        let (host_link, _) = host.addresses.iter().find(is_outer)?;
        Some(Uplink { namespace: namespace.to_owned(), number, host_link: host_link.clone() })
    }

    fn rebuild_vnic(&self, vnic: Vnic) -> Result<bool> {
        self.store.write(move |tx| {
            let is_lost = tx.vnic(&vnic.id)?.is_none();
            if is_lost {
                tx.insert_vnic(&vnic)?;
            }
            Ok(is_lost)
        })
    }

    /// A network, its pools, and the addresses in use there, those of endpoints that cannot be recorded too.
    fn rebuild_network(&self, listed: ListedNetwork, found: Arc<Found>) -> Result<bool> {
        let uplinks = self.fabric.uplinks.pool();
        self.store.write(move |tx| {
            if tx.network(&listed.id)?.is_some() {
                return Ok(false);
            }
            if listed.scope == "swarm" {
                bail!("it is a swarm's: leave the swarm's network on this node, and the next task makes it again");
            }
            let mut described = found.aliases.iter().map(|text| alias::network(text, &listed.id));
            let described = described.find(|subnets| !subnets.is_empty()).unwrap_or_default();
            let mut data = Vec::new();
            for subnet in &listed.ipam.config {
                let is_meant = |(gateway, pool): &&(Option<IpAddr>, Option<PoolId>)| {
                    let pool = pool.as_ref().and_then(PoolId::description).map(|pool| pool.subnet);
                    pool == Some(subnet.subnet) || gateway.is_some_and(|gateway| subnet.subnet.contains(gateway))
                };
                let (gateway, pool) = described.iter().find(is_meant).cloned().unwrap_or_default();
                let gateway = subnet.gateway().or(gateway);
                let mut space = "LocalDefault".to_owned();
                if is_ciao_ipam(&listed.ipam.driver) {
                    let pool = pool_again(tx, &listed, subnet, pool)?;
                    if let Some(gateway) = gateway {
                        grant(tx, &pool, gateway, AddressKind::Gateway)?;
                    }
                    space = if pool.nonce.is_empty() { "local".to_owned() } else { format!("local.{}", pool.nonce) };
                }
                data.push(subnet.data(space, gateway)?);
            }
            let network = record_again(tx, &listed.creation(data)?, &uplinks)?;
            if let Some(uplink) = network.namespace.as_ref().and_then(|name| found.uplinks.get(name))
                && tx.uplink(&uplink.namespace)?.is_none()
            {
                tx.insert_uplink(uplink)?;
            }
            let in_use = listed.containers.values().flat_map(ListedEndpoint::addresses).flatten();
            let aux = network.subnets.iter().flat_map(|subnet| subnet.aux.clone());
            in_use.chain(aux).try_for_each(|address| lease(tx, &network, address))?;
            for pool in network.subnets.iter().filter_map(|subnet| subnet.pool.as_ref()) {
                if let Some(pool) = tx.pool_by_id(pool)? {
                    tx.set_incomplete(&pool.set, false)?;
                }
            }
            Ok(true)
        })
    }

    /// An endpoint, with its VNIC.
    fn rebuild_endpoint(&self, network: NetworkId, listed: ListedEndpoint, found: Arc<Found>) -> Result<bool> {
        let publishes = listed.publishes;
        let egress = self.store.write(move |tx| {
            if tx.endpoint(&listed.endpoint_id)?.is_some() {
                return Ok(None);
            }
            let network = tx.network(&network)?.context("its network is not recorded")?;
            let [address, address6] = listed.addresses();
            let is_its = |vnic: &&Vnic| {
                let [v4, v6] = [vnic.v4, vnic.v6].map(|place| place.map(|(_, address)| address));
                vnic.namespace == network.namespace && vnic.bridge == network.bridge && [v4, v6] == [address, address6]
            };
            let vnic = found.vnics.iter().find(is_its).with_context(|| {
                format!("no link on bridge {} has an alias with its addresses: restart its container", network.bridge)
            })?;
            if tx.vnic(&vnic.id)?.is_none() {
                let of = Some(network.id.clone()).filter(|_| vnic.owner == Owner::Docker);
                tx.insert_vnic(&Vnic { network: of, ..vnic.clone() })?;
            }
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
            Ok(Some(network.egress))
        })?;
        ensure!(
            !publishes || egress != Some(Egress::Nat),
            "it is recorded, but not the ports that its container publishes: restart the container"
        );
        Ok(egress.is_some())
    }
}

/// The pool of a network's subnet: as its PoolID describes it, or else with one that ciao-ipam replaces by Docker's.
fn pool_again(tx: &Tx<'_>, network: &ListedNetwork, subnet: &ListedSubnet, id: Option<PoolId>) -> Result<Pool> {
    let described = id.as_ref().and_then(PoolId::description);
    let space = described.as_ref().map_or_else(|| AddressSpace::of(Scope::Local), |pool| pool.space.clone());
    if let Some(id) = &id
        && let Some(pool) = tx.pool_by_id(id)?
    {
        // ciao-ipam may have made it again, or another network is on it too.
        if !tx.pools_without_network(Scope::Local, subnet.subnet)?.contains(&pool) {
            tx.add_pool_ref(&pool, &space)?;
        }
        return tx.pool_by_id(id)?.context("its pool was released");
    }
    let tenant = match &described {
        Some(pool) => pool.tenant.clone(),
        None => network.ipam.options.get("tenant").map(|text| text.parse()).transpose()?,
    };
    let same = tenant.as_ref().map(|tenant| tx.pool_set_of(Scope::Local, tenant, subnet.subnet)).transpose()?.flatten();
    let set = same.map_or_else(|| tx.insert_pool_set(Scope::Local, tenant.as_ref(), subnet.subnet), Ok)?;
    let (range, serial) = described.map_or((subnet.ip_range, false), |pool| (pool.sub_pool, pool.serial));
    tx.insert_pool_as(&set, &id.unwrap_or_else(PoolId::lost), &space, range, serial)
}

/// Grants an address of a network to an endpoint, unless it is granted.
fn lease(tx: &Tx<'_>, network: &Network, address: IpAddr) -> Result<()> {
    let Some(subnet) = network.subnets.iter().find(|subnet| subnet.subnet.contains(address)) else { return Ok(()) };
    let pool = subnet.pool.as_ref().map(|id| tx.pool_by_id(id)).transpose()?.flatten();
    pool.map_or(Ok(()), |pool| grant(tx, &pool, address, AddressKind::Lease))
}

fn grant(tx: &Tx<'_>, pool: &Pool, address: IpAddr, kind: AddressKind) -> Result<()> {
    match tx.address(&pool.set, address)?.map(|held| held.kind) {
        None => ensure!(tx.take(&pool.set, address)?, "address {address} is not one of pool {}", pool.set.subnet),
        Some(AddressKind::Lease) if kind == AddressKind::Lease => return Ok(()),
        Some(AddressKind::Lease) => bail!("gateway {address} is in use by a container"),
        Some(AddressKind::Gateway) if kind == AddressKind::Lease => bail!("address {address} is in use as a gateway"),
        Some(AddressKind::Gateway | AddressKind::Reserved) => {}
    }
    tx.grant(pool, address, kind)
}

fn is_ciao_ipam(driver: &str) -> bool {
    let name = driver.rsplit('/').next().unwrap_or_default();
    name.split(':').next() == Some("ciao-ipam")
}
