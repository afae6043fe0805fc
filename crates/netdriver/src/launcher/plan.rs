// SPDX-License-Identifier: Apache-2.0
//! What becomes of a launcher's request: a new VNIC, the existing one, or a conflict.

use std::net::IpAddr;

use anyhow::Result;
use ciao_common::store::{AddressKind, AddressRecord, Owner, Scope, Tx, Vnic};
use ciao_common::types::{LinkName, Subnet, TenantId, VnicId};

use super::outcome::Creation;
use super::request::VnicRequest;
use crate::{address_check, names};

/// Records a VNIC, or finds it recorded.
pub(super) fn plan(tx: &Tx<'_>, request: &VnicRequest) -> Result<Creation<Vnic>> {
    let (tenant, subnet) = (&request.tenant, request.subnet);
    if let Some(vnic) = tx.vnic_at(tenant, subnet, request.address)? {
        return Ok(same_or_taken(request, vnic));
    }
    let place = existing_location(tx, tenant, subnet)?;
    if let (Some((namespace, bridge)), Some(asked)) = (&place, request.named_bridge())
        && (bridge != asked || (request.host_bridge.is_some() && namespace.is_some()))
    {
        return Ok(Creation::Conflict(format!(
            "subnet {subnet} of tenant {tenant} is on bridge {bridge}{}, not on {asked}{}: omit the bridge, or give that one",
            if namespace.is_none() { " of the host" } else { "" },
            if request.host_bridge.is_some() { " of the host" } else { "" },
        )));
    }
    if let Some(sentence) = contradicts(tx, request)? {
        return Ok(Creation::Conflict(sentence));
    }
    let vnic = draft(tx, request, place)?;
    if let Some(sentence) = address_check::refused(tx, &vnic)? {
        return Ok(Creation::Conflict(sentence));
    }
    let with_mac = tx.vnics_with_mac(vnic.namespace.as_deref(), &vnic.bridge, vnic.mac)?;
    if let Some(other) = with_mac.first() {
        return Ok(Creation::Conflict(format!(
            "MAC address {} is {}'s on bridge {}: give another one",
            vnic.mac,
            holder(other),
            vnic.bridge
        )));
    }
    for (subnet, address) in [vnic.v4, vnic.v6].into_iter().flatten() {
        if let Some(other) = tx.vnic_with_address(&vnic, address)? {
            return Ok(Creation::Conflict(format!("address {address} is {}'s: give another one", holder(&other))));
        }
        if let Some(sentence) = leased(tx, tenant, subnet, address)? {
            return Ok(Creation::Conflict(sentence));
        }
    }
    tx.insert_vnic(&vnic)?;
    Ok(Creation::Created(vnic))
}

fn holder(vnic: &Vnic) -> String {
    vnic.instance.as_ref().map_or_else(|| format!("VNIC {}", vnic.id), |instance| format!("instance {instance}"))
}

/// A VNIC with the requested address: the same one, or another instance's.
fn same_or_taken(request: &VnicRequest, vnic: Vnic) -> Creation<Vnic> {
    let address = request.address;
    if vnic.instance.as_ref() != Some(&request.instance) {
        return Creation::Conflict(format!("address {address} is {}'s: give another one", holder(&vnic)));
    }
    let v6 = request.subnet6.zip(request.address6);
    let on_host = request.host_bridge.is_none() || vnic.namespace.is_none();
    let bridge = on_host && request.named_bridge().is_none_or(|bridge| *bridge == vnic.bridge);
    let same = vnic.mac == request.mac
        && vnic.v6 == v6
        && vnic.mtu == request.mtu
        && vnic.gateway == request.gateway
        && vnic.allowed == request.allowed_addresses
        && vnic.rate == request.rate
        && bridge;
    if same {
        Creation::Existing(vnic)
    } else {
        Creation::Conflict(format!(
            "instance {} has VNIC {} with address {address} and a different MAC address ({}), MTU, gateway, bridge, rate or additional address: delete it first",
            request.instance, vnic.id, vnic.mac
        ))
    }
}

/// Who holds the address as a lease that is no reservation's, in a sentence.
fn leased(tx: &Tx<'_>, tenant: &TenantId, subnet: Subnet, address: IpAddr) -> Result<Option<String>> {
    let Some(set) = tx.pool_set_of(Scope::Local, tenant, subnet)? else { return Ok(None) };
    let held: Option<AddressRecord> = tx.address(&set, address)?.filter(|held| held.held > 0);
    Ok(held.map(|held| {
        let whose = match held.kind {
            AddressKind::Gateway => "the gateway's",
            _ => "a container's",
        };
        format!("address {address} of subnet {subnet} is {whose}: see \"ciao-ipam lease list --tenant {tenant}\"")
    }))
}

/// A subnet that overlaps another one of the tenant, whose namespace routes between them, or another gateway than the
/// subnet has already: a sentence.
fn contradicts(tx: &Tx<'_>, request: &VnicRequest) -> Result<Option<String>> {
    let mut known = tx.launcher_subnets(&request.tenant)?;
    for network in tx.networks_of_tenant(&request.tenant)? {
        // One on other hosts alone gives way to what is on this one, but its gateway is the same everywhere.
        let subnets = network.subnets.into_iter().map(|subnet| (subnet.subnet, subnet.gateway));
        known.extend(subnets.filter(|(subnet, _)| !network.remote || *subnet == request.subnet));
    }
    for (other, gateway) in known {
        let asked = [Some(request.subnet), request.subnet6].into_iter().flatten();
        if let Some(subnet) = asked.filter(|subnet| *subnet != other).find(|subnet| subnet.overlaps(other)) {
            let sentence =
                format!("subnet {subnet} overlaps subnet {other} of tenant {}: give another one", request.tenant);
            return Ok(Some(sentence));
        }
        if let (Some(ours), Some(theirs)) = (request.gateway, gateway)
            && other == request.subnet
            && ours != theirs
        {
            let sentence =
                format!("subnet {other} has gateway {theirs}, not {ours}: omit the gateway, or give that one");
            return Ok(Some(sentence));
        }
    }
    Ok(None)
}

fn draft(tx: &Tx<'_>, request: &VnicRequest, place: Option<Location>) -> Result<Vnic> {
    let (tenant, subnet) = (&request.tenant, request.subnet);
    let ours = names::tenant_namespace(tenant);
    let (namespace, bridge) = match (place, request.named_bridge()) {
        (Some(place), _) => place,
        (None, Some(bridge)) => {
            let on_host = request.host_bridge.is_some() || tx.is_tenant_on_host_bridge(Some(tenant), bridge)?;
            ((!on_host).then_some(ours), bridge.clone())
        }
        (None, None) => (Some(ours), names::subnet_bridge(tenant, subnet)?),
    };
    let id = VnicId::random();
    let (container_link, host_link) = names::links(&id)?;
    Ok(Vnic {
        id,
        owner: Owner::Launcher,
        tenant: Some(tenant.clone()),
        network: None,
        instance: Some(request.instance.clone()),
        v4: Some((subnet, request.address)),
        v6: request.subnet6.zip(request.address6),
        mac: request.mac,
        gateway: request.gateway,
        mtu: request.mtu,
        namespace,
        bridge,
        allowed: request.allowed_addresses.clone(),
        rate: request.rate,
        network_name: request.network.clone(),
        container_link,
        host_link,
    })
}

/// A namespace (`None`: the host's) and a bridge.
type Location = (Option<String>, LinkName);

/// Where the subnet's other VNICs, or its network, are.
fn existing_location(tx: &Tx<'_>, tenant: &TenantId, subnet: Subnet) -> Result<Option<Location>> {
    // A network on other hosts alone moves to where the VNIC is.
    for network in tx.networks_of_tenant(tenant)?.into_iter().filter(|network| !network.remote) {
        if network.subnets.iter().any(|other| other.subnet == subnet) {
            return Ok(Some((network.namespace, network.bridge)));
        }
    }
    Ok(tx.vnic_in_subnet(tenant, subnet)?.map(|vnic| (vnic.namespace, vnic.bridge)))
}
