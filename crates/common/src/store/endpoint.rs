// SPDX-License-Identifier: Apache-2.0
//! Table `endpoint_record`: containers' attachments to networks, from `CreateEndpoint` to `DeleteEndpoint`.

use std::net::IpAddr;

use anyhow::Result;
use rusqlite::{Row, params};

use super::value::{Text, get, get_optional, text};
use super::{Tx, now};
use crate::types::{EndpointId, NetworkId, VnicId};

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
    /// Milliseconds since 1970.
    pub created: i64,
}

const ENDPOINT: &str = "SELECT id, network, vnic, address, address6, created FROM endpoint_record";

fn endpoint(row: &Row<'_>) -> rusqlite::Result<Endpoint> {
    Ok(Endpoint {
        id: get(row, "id")?,
        network: get(row, "network")?,
        vnic: get(row, "vnic")?,
        address: get_optional(row, "address")?,
        address6: get_optional(row, "address6")?,
        created: row.get("created")?,
    })
}

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
            "INSERT INTO endpoint_record (id, network, vnic, address, address6, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                Text(&endpoint.id),
                Text(&endpoint.network),
                Text(&endpoint.vnic),
                text(endpoint.address),
                text(endpoint.address6),
                now()
            ],
        )
        .map(drop)
    }

    /// Deletes an endpoint. `false`: there was none.
    pub fn delete_endpoint(&self, id: &EndpointId) -> Result<bool> {
        Ok(self.change("DELETE FROM endpoint_record WHERE id = ?1", [Text(id)])? > 0)
    }
}
