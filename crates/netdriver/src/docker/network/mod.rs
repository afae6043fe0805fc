// SPDX-License-Identifier: Apache-2.0
//! `CreateNetwork` and `DeleteNetwork`.

mod check;

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::Empty;
use ciao_common::api::network::{CreateNetwork, IpamData, NetworkRef};
use ciao_common::store::{Egress, Network, NetworkSubnet, Tunnel, Tx, VnicPolicy};
use ciao_common::types::{LinkName, NetworkId, Subnet, TenantId};

use crate::attachment::detach;
use crate::docker::options::NetworkOptions;
use crate::docker::pairing::{self, Pairing};
use crate::rollback::rolled_back;
use crate::uplink_pool::UplinkPool;
use crate::{Driver, names};
use check::{check_route, refuse_overlap, refuse_routed_twice, refuse_vni, tunnel_mtu};

/// The smallest MTU of a link with IPv6 (RFC 8200, 5).
const IPV6_MTU: u32 = 1280;

/// A request for a network, read.
struct NetworkRequest {
    id: NetworkId,
    options: NetworkOptions,
    /// The request's content, to recognize a repeated one.
    fingerprint: String,
    subnets: Vec<(IpamData, NetworkSubnet)>,
}

impl NetworkRequest {
    fn parse(call: &CreateNetwork) -> Result<Self> {
        let options = NetworkOptions::parse(&call.options)?;
        let subnets: Vec<_> = call
            .ipv4_data
            .iter()
            .chain(&call.ipv6_data)
            .map(|data| Ok((data.clone(), subnet(data)?)))
            .collect::<Result<_>>()?;
        for (index, (_, one)) in subnets.iter().enumerate() {
            if let Some((_, other)) = subnets[..index].iter().find(|(_, other)| other.subnet.overlaps(one.subnet)) {
                bail!("subnets {} and {} of the network overlap: give others", other.subnet, one.subnet);
            }
        }
        let has_v6 = subnets.iter().any(|(_, subnet)| subnet.subnet.network().is_ipv6());
        if let Some(mtu) = options.mtu.filter(|mtu| has_v6 && mtu.bytes() < IPV6_MTU) {
            bail!("MTU {mtu} is too small for IPv6: give at least {IPV6_MTU}");
        }
        options.routes.iter().try_for_each(|route| check_route(route, &subnets))?;
        // The id is the key; the rest, whatever of it an engine sends, is what must be the same.
        let said = (
            &call.options.generic(),
            options.internal,
            subnets.iter().map(|(_, s)| (s.subnet, s.gateway)).collect::<Vec<_>>(),
        );
        Ok(Self { id: call.network_id.clone(), options, fingerprint: serde_json::to_string(&said)?, subnets })
    }
}

fn subnet(data: &IpamData) -> Result<NetworkSubnet> {
    let gateway = data.gateway.map(|cidr| cidr.ip());
    data.pool.check_for_hosts(gateway)?;
    let mut aux: Vec<IpAddr> = data.aux_addresses.values().map(|cidr| cidr.ip()).collect();
    aux.sort_unstable();
    Ok(NetworkSubnet { subnet: data.pool, gateway, aux, set_id: None, pool: None })
}

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
        let id = request.id.clone();
        if request.options.encrypted && self.store.read(|tx| tx.network(&id))?.is_none() {
            self.fabric.tunnels.check_encrypted().context("--opt encrypted=required")?;
        }
        let pool = self.fabric.uplinks.pool;
        let (network, made) = self.record_network(request, pool)?;
        if made && network.namespace.is_none() {
            log::warn!(
                "network {} is on bridge {} of the host: no isolation and no anti-spoofing for its \
                 containers",
                network.id.short(),
                network.bridge
            );
        }
        let _lock = self.fabric.lock(network.namespace.as_deref());
        let Err(error) = self.fabric.networks.ensure(&network) else { return Ok(Empty {}) };
        Err(if made { rolled_back(error, self.forget(&network)) } else { error })
    }

    /// Records a network, or finds it recorded. `true`: it is new.
    fn record_network(&self, request: NetworkRequest, pool: UplinkPool) -> Result<(Network, bool)> {
        let request = Arc::new(request);
        let mut contest = None;
        loop {
            let again = Arc::clone(&request);
            match self.store.write(move |tx| record(tx, &again, &pool))? {
                Recorded::Done(network, made) => return Ok((*network, made)),
                Recorded::Contested(subnet) => contest = Some(self.contests.wait(contest, subnet)?),
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
        let _lock = self.fabric.lock(network.namespace.as_deref());
        self.forget(&network)?;
        Ok(Empty {})
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

/// Records a network whose record was lost, on a pool that is there.
pub(crate) fn record_again(tx: &Tx<'_>, call: &CreateNetwork, pool: &UplinkPool) -> Result<Network> {
    match record(tx, &NetworkRequest::parse(call)?, pool)? {
        Recorded::Done(network, _) => Ok(*network),
        Recorded::Contested(subnet) => bail!("several pools of {subnet} may be its own"),
    }
}

/// What became of recording a network.
enum Recorded {
    /// It is recorded; `true`: just now.
    Done(Box<Network>, bool),
    /// Nothing was changed, as it is not known which pool of this subnet is the network's.
    Contested(Subnet),
}

fn record(tx: &Tx<'_>, request: &NetworkRequest, pool: &UplinkPool) -> Result<Recorded> {
    if let Some(network) = tx.network(&request.id)? {
        ensure!(
            network.options == request.fingerprint,
            "network {} exists with different options or subnets",
            request.id.short()
        );
        return Ok(Recorded::Done(Box::new(network), false));
    }
    let mut network = planned(tx, request, pool)?;
    let mut pairings = Vec::new();
    for (data, subnet) in &request.subnets {
        match pairing::find(tx, network.tenant.as_ref(), data)? {
            Pairing::Contested => return Ok(Recorded::Contested(subnet.subnet)),
            pairing => pairings.push(pairing),
        }
    }
    for ((_, subnet), pairing) in request.subnets.iter().zip(pairings) {
        let (set_id, pool) = pairing::take(tx, network.tenant.as_ref(), pairing)?.unzip();
        network.subnets.push(NetworkSubnet { set_id, pool, ..subnet.clone() });
    }
    tx.insert_network(&network)?;
    if let Some(vni) = request.options.vni {
        tx.insert_tunnel(&Tunnel { network: network.id.clone(), vni, encrypted: request.options.encrypted })?;
    }
    Ok(Recorded::Done(Box::new(network), true))
}

/// A new network as its options define it, without its pools.
///
/// # Errors
/// Options that exclude each other, or a network that is recorded.
fn planned(tx: &Tx<'_>, request: &NetworkRequest, pool: &UplinkPool) -> Result<Network> {
    let options = &request.options;
    let subnets: Vec<Subnet> = request.subnets.iter().map(|(_, subnet)| subnet.subnet).collect();
    let tenant = match (&options.tenant, &options.bridge) {
        (Some(tenant), _) => Some(tenant.clone()),
        (None, Some(bridge)) => launcher_of(tx, bridge, &subnets)?,
        (None, None) => None,
    };
    ensure!(
        tenant.is_some() || options.vnics == VnicPolicy::Auto,
        "--opt vnics=required needs a tenant whose launcher creates the VNICs: give -o tenant=T"
    );
    let ours = tenant.as_ref().map_or_else(|| names::network_namespace(&request.id), names::tenant_namespace);
    let bridge = options.bridge.clone().map_or_else(|| names::network_bridge(&request.id), Ok)?;
    let on_host = options.on_host || tx.is_tenant_on_host_bridge(tenant.as_ref(), &bridge)?;
    let namespace = (!on_host).then_some(ours);
    ensure!(
        namespace.is_some() || options.icc,
        "--opt icc=false needs a bridge of ciao-net, and {bridge} is a bridge of the host: give another --opt bridge"
    );
    let egress = options.egress(namespace.is_some())?;
    if egress == Egress::Nat {
        subnets.iter().try_for_each(|subnet| pool.check_disjoint(*subnet))?;
    }
    ensure!(
        options.egress_allow.is_empty() || egress == Egress::Nat,
        "--opt egress_allow is for networks with egress=nat, and this one has egress={egress}: omit one of them"
    );
    let network = Network {
        id: request.id.clone(),
        tenant,
        namespace,
        bridge,
        mtu: tunnel_mtu(tx, options)?,
        egress,
        vnics: options.vnics,
        dst_prefix: options.dst_prefix.clone(),
        egress6: options.egress6,
        secured: options.port_security,
        icc: options.icc,
        egress_allow: options.egress_allow.clone(),
        options: request.fingerprint.clone(),
        subnets: Vec::new(),
        routes: options.routes.clone(),
    };
    refuse_overlap(tx, &network, &subnets)?;
    refuse_vni(tx, &network, options.vni)?;
    refuse_routed_twice(tx, &network, &subnets)?;
    Ok(network)
}

/// The tenant whose launcher has VNICs on that bridge with one of those subnets.
fn launcher_of(tx: &Tx<'_>, bridge: &LinkName, subnets: &[Subnet]) -> Result<Option<TenantId>> {
    let mut tenants = Vec::new();
    for subnet in subnets {
        tenants.extend(tx.tenants_on_bridge(bridge, *subnet)?);
    }
    tenants.sort();
    tenants.dedup();
    ensure!(
        tenants.len() < 2,
        "bridge {bridge} with this subnet has VNICs of several tenants ({}): name the tenant of the network with -o tenant=T --ipam-opt tenant=T",
        tenants.iter().map(TenantId::as_str).collect::<Vec<_>>().join(", ")
    );
    Ok(tenants.pop())
}
