// SPDX-License-Identifier: Apache-2.0
//! `CreateEndpoint` and `DeleteEndpoint`: which VNIC a container gets.

mod choice;

use anyhow::{Result, bail, ensure};
use ciao_common::api::Empty;
use ciao_common::api::endpoint::{CreateEndpoint, EndpointInfo, EndpointRef, EndpointReply, Interface};
use ciao_common::store::{Endpoint, Vnic};

use crate::attachment::{described, is_joining, lookup};
use crate::docker::options::EndpointOptions;
use crate::docker::sandbox;
use crate::kernel::LinkLocation;
use crate::rollback::rolled_back;
use crate::{Driver, fabric};
use choice::{Conflict, EndpointRequest, Links, Outcome, RecordedEndpoint, record};

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
    pub fn create_endpoint(&self, call: CreateEndpoint) -> Result<EndpointReply> {
        if self.fabric.lost.is_any() && self.store.read(|tx| tx.network(&call.network_id))?.is_none() {
            self.fabric.lost.refuse()?;
        }
        self.refuse_ports_without_egress(&call.network_id, &call.options)?;
        let given = call.interface.mac_address;
        let request = EndpointRequest {
            id: call.endpoint_id,
            network: call.network_id,
            v4: call.interface.address.map(|cidr| cidr.ip()),
            v6: call.interface.address_ipv6.map(|cidr| cidr.ip()),
            mac: given,
            options: EndpointOptions::parse(&call.options)?,
        };
        for _ in 0..TRIES {
            match self.record_and_make(&request)? {
                Outcome::Recorded(recorded) => {
                    log::info!("attached {}", described(&request.id, Some(&recorded.vnic)));
                    let reply = sandbox::reply(&recorded.network, &recorded.vnic, request.options.interface.clone());
                    self.ready.keep(&*self.fabric.kernel, &request.id, &recorded.network, &recorded.vnic, reply);
                    let answer = Interface { mac_address: Some(recorded.vnic.mac), ..Interface::default() };
                    return Ok(EndpointReply { interface: given.is_none().then_some(answer) });
                }
                Outcome::Occupied(endpoint, vnic, conflict) => self.supersede(endpoint, &vnic, conflict)?,
            }
        }
        bail!("endpoint {} conflicts with a concurrent request for its VNIC: try again", request.id.short())
    }

    /// Records an endpoint, then makes the links of its VNIC; what a crash leaves of it, the next start finds.
    fn record_and_make(&self, request: &EndpointRequest) -> Result<Outcome> {
        let asked = request.clone();
        let outcome = self.store.write(move |tx| record(tx, &asked))?;
        let Outcome::Recorded(recorded) = &outcome else { return Ok(outcome) };
        let Err(error) = self.make_links(recorded) else { return Ok(outcome) };
        Err(rolled_back(error, self.detach(request.id.clone()).map(drop)))
    }

    /// Makes the links of a VNIC of Docker's. Those of a launcher's VNIC exist, or `Join` creates them.
    fn make_links(&self, recorded: &RecordedEndpoint) -> Result<()> {
        let vnic = &recorded.vnic;
        self.fabric.restored(vnic.namespace.as_deref())?;
        let _lock = self.fabric.lock(vnic.namespace.as_deref());
        match recorded.links {
            Links::New => self.fabric.vnics.create(vnic, recorded.restrictions),
            Links::Docker => self.fabric.vnics.ensure(vnic).map(drop),
            Links::Launcher => Ok(()),
        }
    }

    /// Detaches an endpoint whose container no longer exists: dockerd was killed and never sent `DeleteEndpoint`.
    fn supersede(&self, endpoint: Endpoint, vnic: &Vnic, conflict: Conflict) -> Result<()> {
        let what = match (conflict, endpoint.address.or(endpoint.address6)) {
            (Conflict::Mac, _) => format!("MAC address {} of VNIC {}", vnic.mac, vnic.id),
            (Conflict::VnicOrAddress, Some(address)) => format!("VNIC {} with address {address}", vnic.id),
            (Conflict::VnicOrAddress, None) => format!("VNIC {}", vnic.id),
        };
        // An address is granted once, so its former container no longer exists; but two containers may request one MAC
        // address at the same moment, and the first is about to join.
        let stale = match self.fabric.kernel.locate(&fabric::veth(vnic))? {
            LinkLocation::Container => false,
            LinkLocation::Host(_) => conflict != Conflict::Mac || !self.store.read(|tx| is_joining(tx, &endpoint))?,
            LinkLocation::Absent => true,
        };
        let id = endpoint.id.clone();
        ensure!(stale, "{what} is in use by endpoint {} of a running container: stop that container first", id.short());
        log::info!("endpoint {} is stale, its container no longer exists: {what} is reassigned", id.short());
        self.detach_same(endpoint)
    }

    /// `NetworkDriver.DeleteEndpoint`: deletes the endpoint, with its VNIC unless that is a launcher's.
    ///
    /// An unknown endpoint is no error.
    pub fn delete_endpoint(&self, request: EndpointRef) -> Result<Empty> {
        let id = request.endpoint_id;
        if !self.detach(id.clone())? {
            log::info!("endpoint {} is unknown: nothing to delete", id.short());
        }
        Ok(Empty {})
    }

    /// `NetworkDriver.EndpointOperInfo`: what is recorded, for `docker network inspect -v` and logs.
    pub fn endpoint_oper_info(&self, request: EndpointRef) -> Result<EndpointInfo> {
        let (_, vnic) = self.store.read(|tx| lookup(tx, &request.endpoint_id))?;
        let mut info = EndpointInfo::default();
        let known = [
            ("tenant", vnic.tenant.map(|tenant| tenant.to_string())),
            ("instance", vnic.instance.map(|instance| instance.to_string())),
            ("vnic", Some(vnic.id.to_string())),
            ("bridge", Some(vnic.bridge.to_string())),
            ("namespace", vnic.namespace),
            ("mac", Some(vnic.mac.to_string())),
            ("host_link", Some(vnic.host_link.to_string())),
        ];
        info.value.extend(known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        Ok(info)
    }
}
