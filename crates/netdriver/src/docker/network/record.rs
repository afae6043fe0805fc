// SPDX-License-Identifier: Apache-2.0
//! The record of a network: as its options define it, on its pools.

use anyhow::{Result, bail, ensure};
use ciao_common::api::network::CreateNetwork;
use ciao_common::store::{Egress, Network, NetworkSubnet, Tunnel, Tx, VnicPolicy};
use ciao_common::types::{LinkName, Subnet, TenantId};

use super::check::{refuse_overlap, refuse_routed_twice, refuse_vni, spread_mtu};
use super::request::NetworkRequest;
use crate::docker::pairing::{self, Pairing};
use crate::fabric::IPV6_MTU;
use crate::fabric::remote_networks::supersede;
use crate::names;
use crate::uplink_pool::UplinkPool;

/// Records a network whose record was lost, on a pool that is there.
pub(crate) fn record_again(tx: &Tx<'_>, call: &CreateNetwork, pool: &UplinkPool) -> Result<Network> {
    match record(tx, &NetworkRequest::parse(call)?, pool)? {
        RecordedNetwork::Known(network) | RecordedNetwork::New(network, _) => Ok(*network),
        RecordedNetwork::Contested(subnet) => bail!("several pools of {subnet} may be its own"),
    }
}

/// What became of recording a network.
pub(super) enum RecordedNetwork {
    /// It was recorded before.
    Known(Box<Network>),
    /// It is recorded now, in place of these networks on other hosts.
    New(Box<Network>, Vec<Network>),
    /// Nothing was changed, as it is not known which pool of this subnet is the network's.
    Contested(Subnet),
}

/// Records a network, or finds it recorded.
pub(super) fn record(tx: &Tx<'_>, request: &NetworkRequest, pool: &UplinkPool) -> Result<RecordedNetwork> {
    if let Some(network) = tx.network(&request.id)? {
        ensure!(
            network.options == request.fingerprint,
            "network {} exists with different options or subnets",
            request.id.short()
        );
        return Ok(RecordedNetwork::Known(Box::new(network)));
    }
    let mut network = planned(tx, request, pool)?;
    let mut pairings = Vec::new();
    for (data, subnet) in &request.subnets {
        match pairing::find(tx, network.tenant.as_ref(), data)? {
            Pairing::Contested => return Ok(RecordedNetwork::Contested(subnet.subnet)),
            pairing => pairings.push(pairing),
        }
    }
    for ((_, subnet), pairing) in request.subnets.iter().zip(pairings) {
        let (set_id, pool) = pairing::take(tx, network.tenant.as_ref(), pairing)?.unzip();
        network.subnets.push(NetworkSubnet { set_id, pool, ..subnet.clone() });
    }
    let subnets: Vec<_> = network.subnets.iter().map(|subnet| subnet.subnet).collect();
    let superseded = supersede(tx, &network, &subnets, request.options.vni)?;
    tx.insert_network(&network)?;
    if let Some(vni) = request.options.vni {
        let (encrypted, flood) = (request.options.encrypted, request.options.flood);
        tx.insert_tunnel(&Tunnel { network: network.id.clone(), vni, encrypted, flood })?;
    }
    Ok(RecordedNetwork::New(Box::new(network), superseded))
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
        "--opt icc=off needs a bridge of ciao-net, and {bridge} is a bridge of the host: omit --opt host_bridge, or \
         give another --opt bridge"
    );
    let egress = options.egress(namespace.is_some())?;
    if egress == Egress::Nat {
        subnets.iter().try_for_each(|subnet| pool.check_disjoint(*subnet))?;
    }
    for (option, is_empty) in
        [("egress_allow", options.egress_allow.is_empty()), ("host_access", options.host_access.is_empty())]
    {
        ensure!(
            is_empty || egress == Egress::Nat,
            "--opt {option} is for networks with egress=nat, and this one has egress={egress}: omit one of them"
        );
    }
    let mtu = spread_mtu(tx, options)?;
    if let Some(mtu) = mtu.filter(|mtu| mtu.bytes() < IPV6_MTU) {
        ensure!(
            subnets.iter().all(|subnet| subnet.network().is_ipv4()),
            "MTU {mtu}, which is what tunnels leave of the smallest MTU in the list of hosts, is too small for IPv6: \
             omit the IPv6 subnet, or give the network links between hosts that leave {IPV6_MTU} bytes"
        );
    }
    let network = Network {
        id: request.id.clone(),
        tenant,
        namespace,
        bridge,
        mtu,
        egress,
        vnics: options.vnics,
        dst_prefix: options.dst_prefix.clone(),
        egress6: options.egress6,
        secured: options.port_security,
        icc: options.icc,
        egress_allow: options.egress_allow.clone(),
        host_access: options.host_access.clone(),
        options: request.fingerprint.clone(),
        subnets: Vec::new(),
        routes: options.routes.clone(),
        remote: false,
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
