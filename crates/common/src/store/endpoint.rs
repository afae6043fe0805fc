// SPDX-License-Identifier: Apache-2.0
//! Table `endpoint_record`: containers' attachments to networks, from `CreateEndpoint` to `DeleteEndpoint`.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::{Row, params};

use super::Tx;
use super::value::{Key, Text, get, get_optional, text};
use crate::types::{EndpointId, LinkName, NetworkId, VnicId};

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Docker's id.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkId,
    /// The VNIC.
    pub vnic: VnicId,
    /// IPv4 address.
    pub address: Option<IpAddr>,
    /// IPv6 address.
    pub address6: Option<IpAddr>,
    /// The container's name of its interface; `None`: the network's prefix and a number.
    pub interface: Option<LinkName>,
    /// Milliseconds since 1970.
    pub created: i64,
    /// Since when a container was seen to have its link; `None`: it is still under way, as far as is known.
    pub attached: Option<i64>,
}

const ENDPOINT: &str = "SELECT id, network, vnic, address, address6, interface, created, attached FROM endpoint_record";

/// A row of [`ENDPOINT`], by number: a column's name costs some 500 instructions.
fn endpoint(row: &Row<'_>) -> rusqlite::Result<Endpoint> {
    Ok(Endpoint {
        id: get(row, 0)?,
        network: get(row, 1)?,
        vnic: get(row, 2)?,
        address: get_optional(row, 3)?,
        address6: get_optional(row, 4)?,
        interface: get_optional(row, 5)?,
        created: row.get(6)?,
        attached: row.get(7)?,
    })
}

/// When the engine last started, as far as is known: containers that it was starting before never come up.
const ENGINE_STARTED: &str = "engine_started";

impl Tx<'_> {
    /// The endpoint with that id.
    pub fn endpoint(&self, id: &EndpointId) -> Result<Option<Endpoint>> {
        self.first(&format!("{ENDPOINT} WHERE id = ?1"), [Text(id)], endpoint)
    }

    /// The endpoint of a VNIC.
    pub fn endpoint_of_vnic(&self, vnic: &VnicId) -> Result<Option<Endpoint>> {
        self.first(&format!("{ENDPOINT} WHERE vnic = ?1"), [Text(vnic)], endpoint)
    }

    /// An endpoint of the network with one of the addresses.
    pub fn endpoint_at(
        &self,
        network: &NetworkId,
        address: Option<IpAddr>,
        address6: Option<IpAddr>,
    ) -> Result<Option<Endpoint>> {
        self.first(
            &format!("{ENDPOINT} WHERE network = ?1 AND (address = ?2 OR address6 = ?3)"),
            params![Text(network), text(address), text(address6)],
            endpoint,
        )
    }

    /// All endpoints, oldest first.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>> {
        self.all(&format!("{ENDPOINT} ORDER BY created"), [], endpoint)
    }

    /// The endpoints of a network.
    pub fn endpoints_of_network(&self, network: &NetworkId) -> Result<Vec<Endpoint>> {
        self.all(&format!("{ENDPOINT} WHERE network = ?1 ORDER BY created"), [Text(network)], endpoint)
    }

    /// Records an endpoint.
    ///
    /// # Errors
    /// Another endpoint has the VNIC or an address.
    pub fn insert_endpoint(&self, endpoint: &Endpoint) -> Result<()> {
        self.change(
            "INSERT INTO endpoint_record (id, network, vnic, address, address6, interface, created, attached)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                Text(&endpoint.id),
                Text(&endpoint.network),
                Text(&endpoint.vnic),
                text(endpoint.address),
                text(endpoint.address6),
                text(endpoint.interface.as_ref()),
                endpoint.created,
                endpoint.attached
            ],
        )?;
        self.record_attachment("attach", &endpoint.id)
    }

    /// Records that a container was seen to have an endpoint's link.
    pub fn set_attached(&self, id: &EndpointId) -> Result<()> {
        let set = "UPDATE endpoint_record SET attached = ?2 WHERE id = ?1 AND attached IS NULL";
        self.change(set, params![Text(id), self.now()])
    }

    /// Records that the engine starts.
    pub fn set_engine_started(&self) -> Result<()> {
        self.set_setting(ENGINE_STARTED, &self.now().to_string())
    }

    /// When the engine last started, became a swarm's leader, or found the plugin enabled again.
    pub(super) fn engine_started(&self) -> Result<i64> {
        Ok(self.setting(ENGINE_STARTED)?.and_then(|time| time.parse().ok()).unwrap_or(i64::MIN))
    }

    /// Whether a container of this run of the engine may be about to get the endpoint's link: none had it yet, and the
    /// addresses that ciao-ipam granted for it are still granted.
    pub fn is_under_way(&self, endpoint: &Endpoint) -> Result<bool> {
        if endpoint.attached.is_some() || endpoint.created < self.engine_started()? {
            return Ok(false);
        }
        let subnets = self.network(&endpoint.network)?.map(|network| network.subnets).unwrap_or_default();
        for address in [endpoint.address, endpoint.address6].into_iter().flatten() {
            let set = subnets.iter().find(|subnet| subnet.subnet.contains(address)).and_then(|subnet| subnet.set_id);
            let lease = "SELECT 1 FROM address_record WHERE set_id = ?1 AND key = ?2 AND kind = 'lease'";
            if set.is_some() && self.first(lease, params![set, Key::of(address)], |_| Ok(()))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Deletes an endpoint and its published ports.
    pub fn delete_endpoint(&self, id: &EndpointId) -> Result<()> {
        self.record_revoked(id)?;
        self.record_attachment("detach", id)?;
        self.change("DELETE FROM endpoint_record WHERE id = ?1", [Text(id)])
    }
}
