// SPDX-License-Identifier: Apache-2.0
//! What is asked of the daemons, by how many clients, on which connections.

use anyhow::Result;
use ciao_tests::lab::Host;
use serde_json::Value;

use crate::calls::{self, Endpoint, Lease, Network, Same};
use crate::host;
use crate::http::{Call, Connection};
use crate::load::{Client, Connections};

pub(super) const LEASE: &str = "RequestAddress + ReleaseAddress";
pub(super) const CAPABILITIES: &str = "GetCapabilities";
pub(super) const JOIN: &str = "Join";
pub(super) const ENDPOINT: &str = "CreateEndpoint + DeleteEndpoint";
const MANY: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Daemon {
    Ipam,
    Net,
}

type Make = Box<dyn Fn(usize) -> Box<dyn Client>>;

/// One line of the table.
pub(super) struct Case {
    pub(super) what: &'static str,
    pub(super) daemon: Daemon,
    pub(super) clients: usize,
    pub(super) connections: Connections,
    client: std::rc::Rc<Make>,
}

impl Case {
    /// Its clients.
    pub(super) fn make(&self) -> Vec<Box<dyn Client>> {
        (0..self.clients).map(|number| (self.client)(number)).collect()
    }

    /// Whether it is this one, on connections that are kept.
    pub(super) fn is(&self, what: &str, clients: usize) -> bool {
        self.what == what && self.clients == clients && self.connections == Connections::KeptAlive
    }

    pub(super) fn connections_word(&self) -> &'static str {
        match self.connections {
            Connections::KeptAlive => "kept",
            Connections::New => "new each",
        }
    }
}

/// What the daemons hold before they are measured: a pool, a network, and an endpoint for each client to join.
pub(super) struct Setting {
    pool: String,
    pub(super) network: Network,
    joined: Vec<String>,
}

impl Setting {
    pub(super) fn prepare(host: &Host) -> Result<Self> {
        let network = Network::numbered("bench", 7);
        let pool = calls::request_pool(&host::ipam_socket(host), "bench", &network.subnet, "10.7.0.1")?;
        let mut connection = Connection::open(&host::net_socket(host), false)?;
        network.create(&mut connection)?;
        let joined: Vec<_> = (0..MANY).map(|number| calls::id("joined", &[number])).collect();
        for (number, endpoint) in joined.iter().enumerate() {
            connection.ask::<Value>(&network.create_endpoint(endpoint, 1000 + number))?;
        }
        Ok(Self { pool, network, joined })
    }

    pub(super) fn cases(&self) -> Vec<Case> {
        let pool = self.pool.clone();
        let lease: Make = Box::new(move |_| Box::new(Lease::new(&pool)));
        let capabilities: Make = Box::new(|_| Box::new(Same::new(Call::bare("/NetworkDriver.GetCapabilities"))));
        let (network, joined) = (self.network.clone(), self.joined.clone());
        let join: Make =
            Box::new(move |number| Box::new(Same::new(network.endpoint_call("/NetworkDriver.Join", &joined[number]))));
        let network = self.network.clone();
        let endpoint: Make = Box::new(move |number| Box::new(Endpoint::new(&network, number)));
        let kinds = [
            (LEASE, Daemon::Ipam, lease),
            (CAPABILITIES, Daemon::Net, capabilities),
            (JOIN, Daemon::Net, join),
            (ENDPOINT, Daemon::Net, endpoint),
        ];
        let mut cases = Vec::new();
        for (what, daemon, client) in kinds {
            let client = std::rc::Rc::new(client);
            for connections in [Connections::KeptAlive, Connections::New] {
                for clients in [1, MANY] {
                    cases.push(Case { what, daemon, clients, connections, client: client.clone() });
                }
            }
        }
        cases
    }
}
