// SPDX-License-Identifier: Apache-2.0
//! Addresses that a VNIC must not have because something else has them.

use std::net::IpAddr;

use anyhow::Result;
use ciao_common::store::{Tx, Vnic};

use crate::names;

/// Why a VNIC cannot have its MAC address or one of its additional addresses; `None`: it can.
pub(crate) fn refused(tx: &Tx<'_>, vnic: &Vnic) -> Result<Option<String>> {
    let Some(namespace) = vnic.namespace.as_deref() else { return Ok(None) };
    if names::is_bridge_mac(namespace, &vnic.bridge, vnic.mac) {
        let (mac, bridge) = (vnic.mac, &vnic.bridge);
        return Ok(Some(format!("MAC address {mac} is the MAC address of bridge {bridge}: give another one")));
    }
    if vnic.allowed.is_empty() {
        return Ok(None);
    }
    let networks = tx.networks_in_namespace(namespace)?;
    let vnics = tx.vnics_in_namespace(namespace)?;
    let subnets = || networks.iter().flat_map(|network| &network.subnets);
    for address in &vnic.allowed {
        let is_gateway = subnets().any(|subnet| subnet.gateway == Some(*address))
            || vnics.iter().chain([vnic]).any(|other| other.gateway == Some(*address));
        let in_subnets = subnets()
            .map(|subnet| subnet.subnet)
            .chain([vnic.v4, vnic.v6].into_iter().flatten().map(|(subnet, _)| subnet))
            .find(|subnet| subnet.contains(*address));
        let unusable = in_subnets.is_some_and(|subnet| !subnet.usable().contains(ciao_common::types::number(*address)));
        let neighbour = vnics.iter().find(|other| other.id != vnic.id && other.addresses().any(|own| own == *address));
        let whose = if is_gateway {
            "the gateway's".to_owned()
        } else if unusable {
            "the network's or broadcast address of its subnet".to_owned()
        } else if let Some(neighbour) = neighbour {
            format!("VNIC {}'s own", neighbour.id)
        } else {
            continue;
        };
        return Ok(Some(format!("additional address {address} is {whose}: give another one")));
    }
    Ok(None)
}

/// Whether an address can be a container's, wherever it is.
pub(crate) fn check_address(address: IpAddr) -> Result<IpAddr> {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let unusable = address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast;
    anyhow::ensure!(
        !unusable,
        "{address} cannot be a container's address (unspecified, loopback, multicast or broadcast): give another one"
    );
    Ok(address)
}
