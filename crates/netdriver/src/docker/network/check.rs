// SPDX-License-Identifier: Apache-2.0
//! Why a new network is refused: overlapping subnets, routes without a reachable next hop.

use anyhow::{Result, bail, ensure};
use ciao_common::api::network::IpamData;
use ciao_common::store::{Egress, Egress6, Network, NetworkSubnet, Route, Tunnel, Tx};
use ciao_common::types::{Mtu, Subnet};

use crate::docker::options::NetworkOptions;
use crate::fabric::{self, Fabric};
use crate::rules;

/// A container reaches a next hop on the network only, and has a route to the network already.
pub(super) fn check_route(route: &Route, subnets: &[(IpamData, NetworkSubnet)]) -> Result<()> {
    let to = route.destination;
    let list = || subnets.iter().map(|(_, subnet)| subnet.subnet.to_string()).collect::<Vec<_>>().join(", ");
    if let Some(hop) = route.next_hop {
        ensure!(
            subnets.iter().any(|(_, subnet)| subnet.subnet.contains(hop)),
            "route {to}={hop}: next hop {hop} is in no subnet of the network ({}): give an address on it",
            list()
        );
    }
    let own = subnets.iter().any(|(_, subnet)| subnet.subnet == to);
    ensure!(!own, "route to {to}: this is a subnet of the network itself, omit it");
    Ok(())
}

/// The host routes an IPv6 subnet (`egress6=route`) to one namespace.
pub(super) fn refuse_routed_twice(tx: &Tx<'_>, network: &Network, subnets: &[Subnet]) -> Result<()> {
    if network.egress != Egress::Nat || network.egress6 != Egress6::Route {
        return Ok(());
    }
    for other in tx.networks()?.iter().filter(|other| other.namespace != network.namespace) {
        for theirs in rules::routed6(other) {
            if let Some(ours) = subnets.iter().find(|ours| ours.overlaps(theirs)) {
                bail!(
                    "subnet {ours} cannot be routed (egress6=route): the host already routes {theirs} to network {}. \
                     Give another subnet, or egress6=nat",
                    other.id.short()
                );
            }
        }
    }
    Ok(())
}

/// A tenant's namespace routes between its subnets, so they must be apart, unless they are the same on the same bridge.
pub(super) fn refuse_overlap(tx: &Tx<'_>, network: &Network, subnets: &[Subnet]) -> Result<()> {
    let Some(tenant) = &network.tenant else { return Ok(()) };
    for (theirs, _) in tx.launcher_subnets(tenant)? {
        if let Some(ours) = subnets.iter().find(|ours| **ours != theirs && ours.overlaps(theirs)) {
            bail!(
                "subnet {ours} overlaps subnet {theirs} of VNICs of tenant {tenant}: give another subnet, or the same"
            );
        }
    }
    for other in tx.networks_of_tenant(tenant)?.into_iter().filter(|other| !other.remote) {
        let same_bridge = other.bridge == network.bridge && other.namespace == network.namespace;
        for theirs in &other.subnets {
            let clash =
                subnets.iter().find(|ours| ours.overlaps(theirs.subnet) && !(same_bridge && **ours == theirs.subnet));
            if let Some(ours) = clash {
                bail!(
                    "subnet {ours} overlaps subnet {} of network {} of tenant {tenant}, which is on bridge {}: give another subnet, or the same subnet and bridge",
                    theirs.subnet,
                    other.id.short(),
                    other.bridge
                );
            }
        }
    }
    Ok(())
}

/// Whether it is that of a network on other hosts, which a new one supersedes.
fn is_remote(tx: &Tx<'_>, tunnel: &Tunnel) -> bool {
    tx.network(&tunnel.network).is_ok_and(|network| network.is_some_and(|network| network.remote))
}

/// A VNI is one network's on a host, and a bridge has one.
pub(super) fn refuse_vni(tx: &Tx<'_>, network: &Network, vni: Option<u32>) -> Result<()> {
    let (Some(vni), Some(namespace)) = (vni, &network.namespace) else { return Ok(()) };
    if let Some(other) = tx.tunnel_of_vni(vni)?.filter(|other| !is_remote(tx, other)) {
        bail!("VNI {vni} is that of network {}: give another --opt vni", other.network.short());
    }
    if let Some(other) = tx.tunnels_on_bridge(namespace, &network.bridge)?.iter().find(|other| !is_remote(tx, other)) {
        bail!(
            "bridge {} has the VNI {} of network {}, and a bridge has one: give another --opt bridge",
            network.bridge,
            other.vni,
            other.network.short()
        );
    }
    Ok(())
}

/// The MTU of a new network: decided once, so that it is the same on every host that has the same list of hosts.
pub(crate) fn spread_mtu(tx: &Tx<'_>, options: &NetworkOptions) -> Result<Option<Mtu>> {
    if options.vni.is_none() {
        return Ok(options.mtu);
    }
    let hosts = tx.cluster_hosts()?;
    if let (Some(mtu), true) = (options.mtu, hosts.is_empty()) {
        return Ok(Some(mtu));
    }
    let (overhead, most) = fabric::tunnel_mtu(&hosts);
    let smallest = hosts.iter().min_by_key(|host| host.mtu.bytes());
    match options.mtu {
        Some(mtu) if mtu.bytes() > most => bail!(
            "MTU {mtu} does not fit: {} carries {} bytes, of which the tunnel takes {overhead}: give \
             com.docker.network.driver.mtu={most} or less",
            smallest.map_or_else(|| "a link between hosts".to_owned(), |host| format!("host {}", host.id)),
            most + overhead
        ),
        Some(mtu) => Ok(Some(mtu)),
        None => Ok(Some(Mtu::try_from(most)?)),
    }
}

/// Whether this host's link to the others carries a network's packets.
pub(super) fn check_underlay(fabric: &Fabric, mtu: Mtu) -> Result<()> {
    let Some(own) = fabric.tunnels.cluster()?.own else { return Ok(()) };
    let Some((link, carries)) = fabric.kernel.link_of(own.address)? else { return Ok(()) };
    let overhead = fabric::tunnel_mtu(&[own]).0;
    ensure!(
        mtu.bytes() + overhead <= carries,
        "MTU {mtu} does not fit: {link} carries {carries} bytes, of which the tunnel takes {overhead}: give \
         com.docker.network.driver.mtu={} or less, or {carries} as this host's MTU in the list of hosts",
        carries.saturating_sub(overhead)
    );
    Ok(())
}
