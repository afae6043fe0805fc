// SPDX-License-Identifier: Apache-2.0
//! Table `tunnel_record`: networks that reach over several hosts.

use anyhow::Result;
use rusqlite::{Row, params};

use super::Tx;
use super::value::{Text, get};
use crate::types::{LinkName, NetworkId};

/// A network over several hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Docker's id.
    pub network: NetworkId,
    /// Its VXLAN network identifier.
    pub vni: u32,
    /// Whether it leads to other hosts over an encrypted link only.
    pub encrypted: bool,
    /// Whether broadcast and multicast go to the other hosts.
    pub flood: bool,
}

const TUNNEL: &str = "SELECT network, vni, encrypted, flood FROM tunnel_record";

fn tunnel(row: &Row<'_>) -> rusqlite::Result<Tunnel> {
    let (network, vni) = (get(row, "network")?, row.get("vni")?);
    Ok(Tunnel { network, vni, encrypted: row.get("encrypted")?, flood: row.get("flood")? })
}

impl Tx<'_> {
    /// A network's tunnel, if it reaches over several hosts.
    pub fn tunnel(&self, network: &NetworkId) -> Result<Option<Tunnel>> {
        self.first(&format!("{TUNNEL} WHERE network = ?1"), [Text(network)], tunnel)
    }

    /// The network that has a VNI.
    pub fn tunnel_of_vni(&self, vni: u32) -> Result<Option<Tunnel>> {
        self.first(&format!("{TUNNEL} WHERE vni = ?1"), [vni], tunnel)
    }

    /// The networks over several hosts on a bridge.
    pub fn tunnels_on_bridge(&self, namespace: &str, bridge: &LinkName) -> Result<Vec<Tunnel>> {
        let on_bridge = format!("{TUNNEL} JOIN network_record ON id = network WHERE namespace = ?1 AND bridge = ?2");
        self.all(&on_bridge, params![namespace, Text(bridge)], tunnel)
    }

    /// Every network over several hosts.
    pub fn tunnels(&self) -> Result<Vec<Tunnel>> {
        self.all(&format!("{TUNNEL} ORDER BY vni"), [], tunnel)
    }

    /// Records that a network reaches over several hosts.
    /// A VNI that another network has is an error.
    pub fn insert_tunnel(&self, tunnel: &Tunnel) -> Result<()> {
        self.change(
            "INSERT INTO tunnel_record (network, vni, encrypted, flood) VALUES (?1, ?2, ?3, ?4)",
            params![Text(&tunnel.network), tunnel.vni, tunnel.encrypted, tunnel.flood],
        )
    }
}
