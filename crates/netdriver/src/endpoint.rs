//! `CreateEndpoint` and `DeleteEndpoint`: which VNIC a container gets.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::Empty;
use ciao_common::api::network::{CreateEndpoint, EndpointInfo, EndpointRef, EndpointReply, Interface};
use ciao_common::store::{Endpoint, Network, Owner, Port, Tx, Vnic, VnicPolicy, now};
use ciao_common::types::{EndpointId, MacAddr, NetworkId, Subnet, VnicId};

use crate::kernel::Place;
use crate::options::EndpointOptions;
use crate::{Driver, names, pairing, wiring};

/// What is asked for.
#[derive(Clone)]
struct Wanted {
    id: EndpointId,
    network: NetworkId,
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
    mac: Option<MacAddr>,
    options: EndpointOptions,
}

/// What the store says to it.
enum Found {
    /// Recorded; `true`: the VNIC's links are still to be made.
    Recorded(Box<Vnic>, bool),
    /// Another endpoint is recorded with that VNIC or address. Whether it still lives, the kernel knows.
    Occupied(Endpoint, Box<Vnic>),
}

/// How often a stale endpoint is superseded for one call: its VNIC's, its address's, and once for a race.
const TRIES: usize = 3;

impl Driver {
    /// `NetworkDriver.CreateEndpoint`: records which VNIC the container gets, and makes one where none is and none is
    /// required.
    ///
    /// # Errors
    /// An unknown network; no such VNIC; a VNIC or address that a live container has; a MAC address that is not the
    /// VNIC's.
    pub fn create_endpoint(&self, request: CreateEndpoint) -> Result<EndpointReply> {
        let given = request.interface.mac_address;
        let wanted = Wanted {
            id: request.endpoint_id,
            network: request.network_id,
            v4: request.interface.address.map(|cidr| cidr.ip()),
            v6: request.interface.address_ipv6.map(|cidr| cidr.ip()),
            mac: given,
            options: EndpointOptions::parse(&request.options)?,
        };
        for _ in 0..TRIES {
            let plan = wanted.clone();
            match self.store.write(move |tx| record(tx, &plan))? {
                Found::Recorded(vnic, to_make) => {
                    if to_make {
                        self.make_links(&wanted.id, &vnic)?;
                    }
                    let answer = Interface { mac_address: Some(vnic.mac), ..Interface::default() };
                    return Ok(EndpointReply { interface: given.is_none().then_some(answer) });
                }
                Found::Occupied(endpoint, vnic) => self.supersede(&endpoint, &vnic)?,
            }
        }
        bail!("endpoint {} is raced by another one for its VNIC: try again", wanted.id.short())
    }

    /// Makes the links of a new VNIC of Docker's, or takes its records away again.
    fn make_links(&self, endpoint: &EndpointId, vnic: &Vnic) -> Result<()> {
        let lock = self.wiring.lock(vnic.namespace.as_deref());
        let Err(error) = self.wiring.ensure_vnic(vnic) else { return Ok(()) };
        drop(lock);
        let endpoint = endpoint.clone();
        let gone = self.store.write(move |tx| match tx.endpoint(&endpoint)? {
            Some(endpoint) => forget(tx, &endpoint),
            None => Ok(Gone::default()),
        });
        self.clean_up(gone.context("and undo what was half made")?);
        Err(error)
    }

    /// Forgets an endpoint whose container is gone: dockerd was killed and never said so.
    fn supersede(&self, endpoint: &Endpoint, vnic: &Vnic) -> Result<()> {
        let address = endpoint.address.or(endpoint.address6).map_or_else(String::new, |a| format!(" with address {a}"));
        ensure!(
            self.wiring.kernel.place(&wiring::veth(vnic))? != Place::Container,
            "VNIC {}{address} is in use by endpoint {} of a running container: stop that one first",
            vnic.id,
            endpoint.id.short()
        );
        log::info!("endpoint {}{address} is stale, its container is gone: superseded", endpoint.id.short());
        let stale = endpoint.clone();
        let gone = self.store.write(move |tx| forget_same(tx, &stale))?;
        self.clean_up(gone);
        Ok(())
    }

    /// `NetworkDriver.DeleteEndpoint`: forgets the endpoint. A launcher's VNIC stays; Docker's own goes.
    ///
    /// # Errors
    /// The disk's. An unknown endpoint is none.
    pub fn delete_endpoint(&self, request: EndpointRef) -> Result<Empty> {
        let gone = self.store.write(move |tx| match tx.endpoint(&request.endpoint_id)? {
            Some(endpoint) => forget(tx, &endpoint),
            None => {
                log::info!("endpoint {} is unknown: nothing to delete", request.endpoint_id.short());
                Ok(Gone::default())
            }
        })?;
        self.clean_up(gone);
        Ok(Empty {})
    }

    /// Takes away what an endpoint had: the records say already that it is to go, so what fails now is tried again.
    pub(crate) fn clean_up(&self, gone: Gone) {
        if let Err(error) = self.close_ports(&gone.ports) {
            log::warn!("take published ports back: {error:#}");
        }
        if let Some(vnic) = gone.vnic {
            self.wiring.delete_later(vnic);
        }
    }

    /// `NetworkDriver.EndpointOperInfo`: what is recorded, for `docker network inspect -v` and logs.
    ///
    /// # Errors
    /// An unknown endpoint.
    pub fn endpoint_oper_info(&self, request: EndpointRef) -> Result<EndpointInfo> {
        let (_, vnic) = self.lookup(&request.endpoint_id)?;
        let mut info = EndpointInfo::default();
        let mut say = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                info.value.insert(key.to_owned(), value);
            }
        };
        say("tenant", vnic.tenant.map(String::from));
        say("instance", vnic.instance.map(String::from));
        say("vnic", Some(vnic.id.into()));
        say("bridge", Some(vnic.bridge.into()));
        say("namespace", vnic.namespace);
        say("mac", Some(vnic.mac.to_string()));
        say("host_link", Some(vnic.host_link.into()));
        Ok(info)
    }

    /// An endpoint and its VNIC.
    pub(crate) fn lookup(&self, id: &EndpointId) -> Result<(Endpoint, Vnic)> {
        self.store.read(|tx| {
            let endpoint = tx.endpoint(id)?.with_context(|| unknown(id))?;
            let vnic = tx
                .vnic(&endpoint.vnic)?
                .with_context(|| format!("VNIC {} of endpoint {} is gone", endpoint.vnic, id.short()))?;
            Ok((endpoint, vnic))
        })
    }
}

/// What is said of an endpoint that is not recorded.
pub(crate) fn unknown(id: &EndpointId) -> String {
    format!(
        "endpoint {} is unknown: it was deleted, or another ciao-net made it; start the container again",
        id.short()
    )
}

/// What is still to be taken away when the record of an endpoint is gone.
#[derive(Default)]
pub(crate) struct Gone {
    /// Its VNIC, if that is Docker's.
    pub(crate) vnic: Option<VnicId>,
    /// Its published ports.
    pub(crate) ports: Vec<Port>,
}

/// Forgets an endpoint. Its VNIC, if it is Docker's, is to be deleted.
pub(crate) fn forget(tx: &Tx<'_>, endpoint: &Endpoint) -> Result<Gone> {
    let ports = tx.ports_of(&endpoint.id)?;
    tx.delete_endpoint(&endpoint.id)?;
    let vnic = tx.vnic(&endpoint.vnic)?.filter(|vnic| vnic.owner == Owner::Docker).map(|vnic| vnic.id);
    if let Some(id) = &vnic {
        tx.set_vnic_going(id)?;
    }
    Ok(Gone { vnic, ports })
}

/// Forgets an endpoint, if it is still as it was.
pub(crate) fn forget_same(tx: &Tx<'_>, endpoint: &Endpoint) -> Result<Gone> {
    match tx.endpoint(&endpoint.id)? {
        Some(found) if found == *endpoint => forget(tx, &found),
        _ => Ok(Gone::default()),
    }
}

fn record(tx: &Tx<'_>, wanted: &Wanted) -> Result<Found> {
    let network = tx.network(&wanted.network)?.with_context(|| {
        format!("network {} is unknown: it was deleted, or another ciao-net made it", wanted.network.short())
    })?;
    if let Some(endpoint) = tx.endpoint(&wanted.id)? {
        let same =
            endpoint.network == wanted.network && endpoint.address == wanted.v4 && endpoint.address6 == wanted.v6;
        let vnic = tx.vnic(&endpoint.vnic)?.filter(|vnic| same && wanted.mac.is_none_or(|mac| mac == vnic.mac));
        let vnic = vnic.with_context(|| format!("endpoint {} exists with other content", wanted.id.short()))?;
        let to_make = vnic.owner == Owner::Docker;
        return Ok(Found::Recorded(Box::new(vnic), to_make));
    }
    let (vnic, is_new) = match find_vnic(tx, &network, wanted)? {
        Some(vnic) => (vnic, false),
        None => (new_vnic(&network, wanted)?, true),
    };
    if let Some(endpoint) = occupant(tx, wanted, &vnic, is_new)? {
        let vnic = tx.vnic(&endpoint.vnic)?.unwrap_or(vnic);
        return Ok(Found::Occupied(endpoint, Box::new(vnic)));
    }
    for address in [wanted.v4, wanted.v6].into_iter().flatten() {
        pairing::settle(tx, &network, address)?;
    }
    if is_new {
        tx.insert_vnic(&vnic)?;
    }
    tx.insert_endpoint(&Endpoint {
        id: wanted.id.clone(),
        network: wanted.network.clone(),
        vnic: vnic.id.clone(),
        address: wanted.v4,
        address6: wanted.v6,
        created: now(),
    })?;
    Ok(Found::Recorded(Box::new(vnic), is_new))
}

/// The endpoint that is recorded with the VNIC, with one of the addresses, or with the MAC address: two links with one
/// MAC address on a bridge would take each other's frames.
fn occupant(tx: &Tx<'_>, wanted: &Wanted, vnic: &Vnic, is_new: bool) -> Result<Option<Endpoint>> {
    if let Some(endpoint) = tx.endpoint_of_vnic(&vnic.id)? {
        return Ok(Some(endpoint));
    }
    if let Some(endpoint) = tx.endpoint_at(&wanted.network, wanted.v4, wanted.v6)? {
        return Ok(Some(endpoint));
    }
    if !is_new {
        return Ok(None);
    }
    let with_mac = tx.vnics_with_mac(vnic.namespace.as_deref(), &vnic.bridge, vnic.mac)?;
    let Some(other) = with_mac.first() else { return Ok(None) };
    let endpoint = tx.endpoint_of_vnic(&other.id)?;
    endpoint.map(Some).with_context(|| {
        format!("MAC address {} is VNIC {}'s on bridge {}: give another --mac-address", vnic.mac, other.id, vnic.bridge)
    })
}

/// The launcher's VNIC that is meant, by option, address, or MAC address.
fn find_vnic(tx: &Tx<'_>, network: &Network, wanted: &Wanted) -> Result<Option<Vnic>> {
    let Some(vnic) = search(tx, network, wanted)? else { return Ok(None) };
    ensure!(
        vnic.namespace == network.namespace && vnic.bridge == network.bridge,
        "VNIC {} is on bridge {}, but network {} is on bridge {}: run the container on the VNIC's network",
        vnic.id,
        vnic.bridge,
        network.id.short(),
        network.bridge
    );
    if let Some(mac) = wanted.mac.filter(|mac| *mac != vnic.mac) {
        bail!("MAC address {mac} is asked for, but VNIC {} has {}: give --mac-address {}", vnic.id, vnic.mac, vnic.mac);
    }
    for (asked, has) in [(wanted.v4, vnic.v4), (wanted.v6, vnic.v6)] {
        if let (Some(asked), Some((_, has))) = (asked, has) {
            ensure!(asked == has, "address {asked} is asked for, but VNIC {} has {has}: give --ip {has}", vnic.id);
        }
    }
    Ok(Some(vnic))
}

fn search(tx: &Tx<'_>, network: &Network, wanted: &Wanted) -> Result<Option<Vnic>> {
    if let Some(id) = &wanted.options.vnic {
        let vnic = tx.vnic(id)?.filter(|vnic| vnic.owner == Owner::Launcher);
        return vnic.map(Some).with_context(|| format!("VNIC {id} is unknown: see \"ciao-net vnic list\""));
    }
    let Some(tenant) = &network.tenant else { return Ok(None) };
    for address in [wanted.v4, wanted.v6].into_iter().flatten() {
        let Some(subnet) = subnet_of(network, address) else { continue };
        if let Some(vnic) = tx.vnic_at(tenant, subnet, address)? {
            return Ok(Some(vnic));
        }
    }
    if let Some(instance) = &wanted.options.instance {
        let vnics = tx.vnics_of_instance(instance)?;
        let here = |vnic: &Vnic| vnic.namespace == network.namespace && vnic.bridge == network.bridge;
        if let Some(vnic) = vnics.into_iter().find(here) {
            return Ok(Some(vnic));
        }
    }
    let Some(mac) = wanted.mac else { return Ok(None) };
    let with_mac = tx.vnics_with_mac(network.namespace.as_deref(), &network.bridge, mac)?;
    Ok(with_mac.into_iter().find(|vnic| vnic.owner == Owner::Launcher))
}

fn subnet_of(network: &Network, address: IpAddr) -> Option<Subnet> {
    network.subnets.iter().map(|subnet| subnet.subnet).find(|subnet| subnet.contains(address))
}

/// A VNIC of Docker's own, for an endpoint that no launcher prepared.
fn new_vnic(network: &Network, wanted: &Wanted) -> Result<Vnic> {
    let address = wanted.v4.or(wanted.v6);
    if network.vnics == VnicPolicy::Required {
        let (tenant, shown) = (
            network.tenant.as_ref().map_or("T", |tenant| tenant.as_str()),
            address.map_or_else(|| "A".to_owned(), |address| address.to_string()),
        );
        bail!(
            "no VNIC has address {shown} on bridge {}, and the network has vnics=required: make one first with \
             \"ciao-net vnic create --tenant {tenant} --instance I --subnet S --ip {shown} --mac M\"",
            network.bridge
        );
    }
    for address in [wanted.v4, wanted.v6].into_iter().flatten() {
        ensure!(
            subnet_of(network, address).is_some(),
            "address {address} is outside of network {}",
            network.id.short()
        );
    }
    let owner = network.tenant.as_ref().map_or(network.id.as_str(), |tenant| tenant.as_str());
    let derived = || match address {
        Some(address) => MacAddr::derived(owner, address),
        None => MacAddr::hashed(wanted.id.as_str().as_bytes()),
    };
    let mac = wanted.mac.unwrap_or_else(derived);
    let id = VnicId::random();
    let (container_link, host_link) = names::links(&id)?;
    let place = |address: IpAddr| subnet_of(network, address).map(|subnet| (subnet, address));
    Ok(Vnic {
        id,
        owner: Owner::Docker,
        tenant: network.tenant.clone(),
        network: Some(network.id.clone()),
        instance: wanted.options.instance.clone(),
        v4: wanted.v4.and_then(place),
        v6: wanted.v6.and_then(place),
        mac,
        gateway: None,
        mtu: network.mtu,
        namespace: network.namespace.clone(),
        bridge: network.bridge.clone(),
        allowed: wanted.options.allowed_addresses.clone(),
        rate: wanted.options.rate,
        network_name: None,
        container_link,
        host_link,
    })
}
