// SPDX-License-Identifier: Apache-2.0
//! Which VNIC an endpoint gets, an existing one of a launcher or a new one of Docker's own, and conflicts with others.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::store::{Endpoint, Network, Owner, Tx, Vnic, VnicPolicy};
use ciao_common::types::{EndpointId, MacAddr, NetworkId, Subnet, VnicId};

use crate::docker::options::{EndpointOptions, prefix_of};
use crate::docker::pairing;
use crate::rules::Restrictions;
use crate::{address_check, names};

/// The endpoint that Docker requests.
#[derive(Clone)]
pub(super) struct EndpointRequest {
    pub(super) id: EndpointId,
    pub(super) network: NetworkId,
    pub(super) v4: Option<IpAddr>,
    pub(super) v6: Option<IpAddr>,
    pub(super) mac: Option<MacAddr>,
    pub(super) options: EndpointOptions,
}

/// What becomes of it.
pub(super) enum Outcome {
    /// Recorded.
    Recorded(Box<RecordedEndpoint>),
    /// Another endpoint has a part of what is requested. The kernel shows whether its container still exists.
    Occupied(Endpoint, Box<Vnic>, Conflict),
}

/// An endpoint's network and VNIC.
pub(super) struct RecordedEndpoint {
    pub(super) network: Network,
    pub(super) vnic: Vnic,
    pub(super) restrictions: Restrictions,
    pub(super) links: Links,
}

/// What is known of a VNIC's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// The VNIC was recorded just now: there are none yet.
    New,
    /// Docker's own VNIC was recorded by the same call before: they should be there.
    Docker,
    /// The launcher had them made.
    Launcher,
}

/// What two endpoints cannot both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// A VNIC, or an address of a network.
    VnicOrAddress,
    /// A MAC address on a bridge.
    Mac,
}

/// Records an endpoint with its VNIC, or finds it recorded.
pub(super) fn record(tx: &Tx<'_>, request: &EndpointRequest) -> Result<Outcome> {
    let network = tx.network(&request.network)?.with_context(|| {
        format!("network {} is unknown: it was deleted, or created by another ciao-net", request.network.short())
    })?;
    let interface = request.options.interface.clone();
    if let Some(name) = interface.as_ref().filter(|name| prefix_of(name) == network.dst_prefix) {
        bail!(
            "interface name {name} is not possible: the engine numbers the interfaces called {}N itself: give one that \
             begins otherwise, such as wan0",
            network.dst_prefix
        );
    }
    if let Some(endpoint) = tx.endpoint(&request.id)? {
        let same =
            endpoint.network == request.network && endpoint.address == request.v4 && endpoint.address6 == request.v6;
        let vnic = tx.vnic(&endpoint.vnic)?.filter(|vnic| same && request.mac.is_none_or(|mac| mac == vnic.mac));
        let vnic = vnic.with_context(|| format!("endpoint {} exists with different parameters", request.id.short()))?;
        let links = if vnic.owner == Owner::Docker { Links::Docker } else { Links::Launcher };
        return Ok(Outcome::Recorded(Box::new(recorded(tx, network, vnic, links)?)));
    }
    let (vnic, is_new) = match find_vnic(tx, &network, request)? {
        Some(vnic) => (vnic, false),
        None => (new_vnic(&network, request)?, true),
    };
    if let Some((endpoint, clash)) = occupant(tx, request, &vnic, is_new)? {
        let vnic = tx.vnic(&endpoint.vnic)?.unwrap_or(vnic);
        return Ok(Outcome::Occupied(endpoint, Box::new(vnic), clash));
    }
    if is_new && let Some(sentence) = address_check::refused(tx, &vnic)? {
        bail!("{sentence}");
    }
    for address in [request.v4, request.v6].into_iter().flatten() {
        pairing::settle(tx, &network, address)?;
    }
    let found = recorded(tx, network, vnic, if is_new { Links::New } else { Links::Launcher })?;
    if is_new {
        tx.insert_vnic(&found.vnic)?;
    }
    tx.insert_endpoint(&Endpoint {
        id: request.id.clone(),
        network: request.network.clone(),
        vnic: found.vnic.id.clone(),
        address: request.v4,
        address6: request.v6,
        interface,
        created: tx.now(),
        attached: None,
    })?;
    Ok(Outcome::Recorded(Box::new(found)))
}

fn recorded(tx: &Tx<'_>, network: Network, vnic: Vnic, links: Links) -> Result<RecordedEndpoint> {
    let restrictions = Restrictions::recorded(tx, &vnic)?;
    Ok(RecordedEndpoint { network, vnic, restrictions, links })
}

/// The endpoint that is recorded with the VNIC, with one of the addresses, or with the MAC address: two links with one
/// MAC address on a bridge would take each other's frames.
fn occupant(tx: &Tx<'_>, request: &EndpointRequest, vnic: &Vnic, is_new: bool) -> Result<Option<(Endpoint, Conflict)>> {
    if let Some(endpoint) = tx.endpoint_of_vnic(&vnic.id)? {
        return Ok(Some((endpoint, Conflict::VnicOrAddress)));
    }
    if let Some(endpoint) = tx.endpoint_at(&request.network, request.v4, request.v6)? {
        return Ok(Some((endpoint, Conflict::VnicOrAddress)));
    }
    if !is_new {
        return Ok(None);
    }
    let with_mac = tx.vnics_with_mac(vnic.namespace.as_deref(), &vnic.bridge, vnic.mac)?;
    let Some(other) = with_mac.first() else { return Ok(None) };
    let endpoint = tx.endpoint_of_vnic(&other.id)?.with_context(|| {
        format!("MAC address {} is VNIC {}'s on bridge {}: give another --mac-address", vnic.mac, other.id, vnic.bridge)
    })?;
    Ok(Some((endpoint, Conflict::Mac)))
}

/// The launcher's VNIC that is meant, by option, address, or MAC address.
fn find_vnic(tx: &Tx<'_>, network: &Network, request: &EndpointRequest) -> Result<Option<Vnic>> {
    let Some(vnic) = search(tx, network, request)? else { return Ok(None) };
    ensure!(
        vnic.namespace == network.namespace && vnic.bridge == network.bridge,
        "VNIC {} is on bridge {}, but network {} is on bridge {}: run the container on the VNIC's network",
        vnic.id,
        vnic.bridge,
        network.id.short(),
        network.bridge
    );
    if let Some(mac) = request.mac.filter(|mac| *mac != vnic.mac) {
        bail!("MAC address {mac} is requested, but VNIC {} has {}: give --mac-address {}", vnic.id, vnic.mac, vnic.mac);
    }
    for (asked, has) in [(request.v4, vnic.v4), (request.v6, vnic.v6)] {
        if let (Some(asked), Some((_, has))) = (asked, has) {
            ensure!(asked == has, "address {asked} is requested, but VNIC {} has {has}: give --ip {has}", vnic.id);
        }
    }
    Ok(Some(vnic))
}

fn search(tx: &Tx<'_>, network: &Network, request: &EndpointRequest) -> Result<Option<Vnic>> {
    if let Some(id) = &request.options.vnic {
        let vnic = tx.vnic(id)?.filter(|vnic| vnic.owner == Owner::Launcher && vnic.tenant == network.tenant);
        return vnic.map(Some).with_context(|| {
            let whose = network.tenant.as_ref().map_or("no tenant", |tenant| tenant.as_str());
            format!(
                "VNIC {id} is unknown, or not a VNIC of {whose}, which owns the network: see \"ciao-net vnic list\""
            )
        });
    }
    let Some(tenant) = &network.tenant else { return Ok(None) };
    for address in [request.v4, request.v6].into_iter().flatten() {
        let Some(subnet) = subnet_of(network, address) else { continue };
        if let Some(vnic) = tx.vnic_at(tenant, subnet, address)? {
            return Ok(Some(vnic));
        }
    }
    if let Some(instance) = &request.options.instance {
        let vnics = tx.vnics_of_instance(instance)?;
        let here = |vnic: &Vnic| {
            vnic.tenant == network.tenant && vnic.namespace == network.namespace && vnic.bridge == network.bridge
        };
        if let Some(vnic) = vnics.into_iter().find(here) {
            return Ok(Some(vnic));
        }
    }
    let Some(mac) = request.mac else { return Ok(None) };
    let with_mac = tx.vnics_with_mac(network.namespace.as_deref(), &network.bridge, mac)?;
    Ok(with_mac.into_iter().find(|vnic| vnic.owner == Owner::Launcher && vnic.tenant == network.tenant))
}

fn subnet_of(network: &Network, address: IpAddr) -> Option<Subnet> {
    network.subnets.iter().map(|subnet| subnet.subnet).find(|subnet| subnet.contains(address))
}

/// A VNIC of Docker's own, for an endpoint that no launcher prepared.
fn new_vnic(network: &Network, request: &EndpointRequest) -> Result<Vnic> {
    let address = request.v4.or(request.v6);
    if network.vnics == VnicPolicy::Required {
        let words = |value: Option<String>, unknown: &str| value.unwrap_or_else(|| unknown.to_owned());
        let shown = words(address.map(|address| address.to_string()), "A");
        bail!(
            "no VNIC has address {shown} on bridge {}, and the network has vnics=required: create one first with \
             \"ciao-net vnic create --tenant {} --instance I --subnet {} --ip {shown} --mac {}\"",
            network.bridge,
            words(network.tenant.as_ref().map(ToString::to_string), "T"),
            words(address.and_then(|address| subnet_of(network, address)).map(|subnet| subnet.to_string()), "S"),
            words(request.mac.map(|mac| mac.to_string()), "M"),
        );
    }
    for address in [request.v4, request.v6].into_iter().flatten() {
        ensure!(
            subnet_of(network, address).is_some(),
            "address {address} is outside of network {}",
            network.id.short()
        );
    }
    let owner = network.tenant.as_ref().map_or(network.id.as_str(), |tenant| tenant.as_str());
    let derived = || match address {
        Some(address) => MacAddr::derived(owner, address),
        None => MacAddr::hashed(request.id.as_str().as_bytes()),
    };
    let mac = request.mac.unwrap_or_else(derived);
    let id = VnicId::random();
    let (container_link, host_link) = names::links(&id)?;
    let place = |address: IpAddr| subnet_of(network, address).map(|subnet| (subnet, address));
    Ok(Vnic {
        id,
        owner: Owner::Docker,
        tenant: network.tenant.clone(),
        network: Some(network.id.clone()),
        instance: request.options.instance.clone(),
        v4: request.v4.and_then(place),
        v6: request.v6.and_then(place),
        mac,
        gateway: None,
        mtu: network.mtu,
        namespace: network.namespace.clone(),
        bridge: network.bridge.clone(),
        allowed: request.options.allowed_addresses.clone(),
        rate: request.options.rate,
        network_name: None,
        container_link,
        host_link,
    })
}
