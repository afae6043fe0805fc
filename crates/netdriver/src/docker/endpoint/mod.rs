//! `CreateEndpoint` and `DeleteEndpoint`: which VNIC a container gets.

mod choice;

use std::sync::mpsc::channel;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::Empty;
use ciao_common::api::network::{CreateEndpoint, EndpointInfo, EndpointRef, EndpointReply, Interface};
use ciao_common::store::{Endpoint, Owner, Port, Tx, Vnic, now};
use ciao_common::types::{EndpointId, VnicId};

use crate::docker::options::EndpointOptions;
use crate::docker::sandbox;
use crate::kernel::Place;
use crate::{Driver, fabric, undone};
use choice::{Clash, Found, Links, Recorded, Wanted, record};

/// So long, in milliseconds, an endpoint may take from being made to having joined.
const SETTING_UP: i64 = 15_000;

/// How often a stale endpoint is superseded for one call: its VNIC's, its addresses', its MAC
/// address's, and once for a race.
const TRIES: usize = 5;

impl Driver {
    /// `NetworkDriver.CreateEndpoint`: records which VNIC the container gets, and makes one where none is and none is
    /// required.
    ///
    /// # Errors
    /// An unknown network; no such VNIC; a VNIC or address that a live container has; a MAC address that is not the
    /// VNIC's.
    pub fn create_endpoint(&self, request: CreateEndpoint) -> Result<EndpointReply> {
        self.refuse_ports_without_egress(&request.network_id, &request.options)?;
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
            match self.record_and_make(&wanted)? {
                Found::Recorded(recorded) => {
                    let reply = sandbox::reply(&recorded.network, &recorded.vnic);
                    self.ready.keep(&*self.fabric.kernel, &wanted.id, &recorded.network, &recorded.vnic, reply);
                    let answer = Interface { mac_address: Some(recorded.vnic.mac), ..Interface::default() };
                    return Ok(EndpointReply { interface: given.is_none().then_some(answer) });
                }
                Found::Occupied(endpoint, vnic, clash) => self.supersede(&endpoint, &vnic, clash)?,
            }
        }
        bail!("endpoint {} is raced by another one for its VNIC: try again", wanted.id.short())
    }

    /// Records an endpoint and, while the disk writes that, makes the links of its VNIC. If one of both fails, the other
    /// is undone; what a crash leaves of it, the next start finds.
    fn record_and_make(&self, wanted: &Wanted) -> Result<Found> {
        let (tell, told) = channel();
        let plan = wanted.clone();
        // Who listens waits for the answer too.
        let answer = self.store.begin(move |tx| record(tx, &plan, |recorded| drop(tell.send(recorded))));
        let Ok(recorded) = told.recv() else { return answer.wait() };
        let made = self.make_links(&recorded);
        let found = match answer.wait() {
            Ok(found) => found,
            Err(error) if made.is_ok() && recorded.links == Links::New => {
                return Err(undone(error, self.fabric.unmake_vnic(&recorded.vnic, recorded.walls)));
            }
            Err(error) => return Err(error),
        };
        let Err(error) = made else { return Ok(found) };
        let endpoint = wanted.id.clone();
        let gone = self.store.write(move |tx| match tx.endpoint(&endpoint)? {
            Some(endpoint) => forget(tx, &endpoint),
            None => Ok(Gone::default()),
        });
        Err(undone(error, gone.map(|gone| self.clean_up(gone))))
    }

    /// Makes the links of a VNIC of Docker's. Those of a launcher's VNIC are there, or made again by `Join`.
    fn make_links(&self, recorded: &Recorded) -> Result<()> {
        let vnic = &recorded.vnic;
        let _lock = self.fabric.lock(vnic.namespace.as_deref());
        match recorded.links {
            Links::New => self.fabric.new_vnic(vnic, recorded.walls),
            Links::Docker => self.fabric.ensure_vnic(vnic),
            Links::Launcher => Ok(()),
        }
    }

    /// Forgets an endpoint whose container is gone: dockerd was killed and never said so.
    fn supersede(&self, endpoint: &Endpoint, vnic: &Vnic, clash: Clash) -> Result<()> {
        let what = match (clash, endpoint.address.or(endpoint.address6)) {
            (Clash::Mac, _) => format!("MAC address {} of VNIC {}", vnic.mac, vnic.id),
            (Clash::Place, Some(address)) => format!("VNIC {} with address {address}", vnic.id),
            (Clash::Place, None) => format!("VNIC {}", vnic.id),
        };
        let place = self.fabric.kernel.place(&fabric::veth(vnic))?;
        // An address is granted once, so who has it now is gone; but two containers may ask for one MAC address at the
        // same moment, and the first is about to join.
        let joining = clash == Clash::Mac && place != Place::Gone && now() - endpoint.created < SETTING_UP;
        ensure!(
            place != Place::Container && !joining,
            "{what} is in use by endpoint {} of a running container: stop that one first",
            endpoint.id.short()
        );
        log::info!("endpoint {} is stale, its container is gone: {what} is another one's now", endpoint.id.short());
        let stale = endpoint.clone();
        let gone = self.store.write(move |tx| forget_same(tx, &stale))?;
        self.clean_up(gone);
        Ok(())
    }

    /// Forgets an endpoint, unless a container has its link or is about to. `true`: it is forgotten.
    ///
    /// # Errors
    /// The disk's or the kernel's.
    pub(crate) fn forget_stale(&self, id: &EndpointId) -> Result<bool> {
        let found = self.store.read(|tx| match tx.endpoint(id)? {
            Some(endpoint) => Ok(tx.vnic(&endpoint.vnic)?.zip(Some(endpoint))),
            None => Ok(None),
        })?;
        let Some((vnic, endpoint)) = found else { return Ok(false) };
        let place = self.fabric.kernel.place(&fabric::veth(&vnic))?;
        if place == Place::Container || (place != Place::Gone && now() - endpoint.created < SETTING_UP) {
            return Ok(false);
        }
        log::info!("endpoint {} is stale, its container is gone: its ports are another one's now", id.short());
        let gone = self.store.write(move |tx| forget_same(tx, &endpoint))?;
        self.clean_up(gone);
        Ok(true)
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
        if let Some(endpoint) = &gone.endpoint {
            self.ready.forget(endpoint);
        }
        if let Err(error) = self.close_ports(&gone.ports) {
            log::warn!("take published ports back: {error:#}");
        }
        if let Some(vnic) = gone.vnic {
            self.fabric.delete_later(vnic);
        }
    }

    /// `NetworkDriver.EndpointOperInfo`: what is recorded, for `docker network inspect -v` and logs.
    ///
    /// # Errors
    /// An unknown endpoint.
    pub fn endpoint_oper_info(&self, request: EndpointRef) -> Result<EndpointInfo> {
        let (_, vnic) = self.store.read(|tx| lookup(tx, &request.endpoint_id))?;
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
}

/// An endpoint and its VNIC.
pub(crate) fn lookup(tx: &Tx<'_>, id: &EndpointId) -> Result<(Endpoint, Vnic)> {
    let endpoint = tx.endpoint(id)?.with_context(|| unknown(id))?;
    let gone = || format!("VNIC {} of endpoint {} is gone: start the container again", endpoint.vnic, id.short());
    let vnic = tx.vnic(&endpoint.vnic)?.with_context(gone)?;
    Ok((endpoint, vnic))
}

/// What is said of an endpoint that is not recorded.
fn unknown(id: &EndpointId) -> String {
    format!(
        "endpoint {} is unknown: it was deleted, or another ciao-net made it; start the container again",
        id.short()
    )
}

/// What is still to be taken away when the record of an endpoint is gone.
#[derive(Default)]
pub(crate) struct Gone {
    /// Itself.
    pub(crate) endpoint: Option<EndpointId>,
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
        tx.set_vnic_deleting(id)?;
    }
    Ok(Gone { endpoint: Some(endpoint.id.clone()), vnic, ports })
}

/// Forgets an endpoint, if it is still as it was.
pub(crate) fn forget_same(tx: &Tx<'_>, endpoint: &Endpoint) -> Result<Gone> {
    match tx.endpoint(&endpoint.id)? {
        Some(found) if found == *endpoint => forget(tx, &found),
        _ => Ok(Gone::default()),
    }
}
