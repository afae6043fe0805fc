// SPDX-License-Identifier: Apache-2.0
//! What is asked of the daemons, by how many clients, on which connections.

use std::path::PathBuf;

use anyhow::Result;
use ciao_tests::lab::Host;
use serde_json::Value;

use crate::calls::{self, Endpoint, Lease, Network, Same};
use crate::host;
use crate::http::{Call, Connection};
use crate::load::{Client, Connections};
use crate::peers::Peer;

pub(super) const LEASE: &str = "RequestAddress + ReleaseAddress";
pub(super) const EMPTY: &str = "Activate";
pub(super) const JOIN: &str = "Join";
pub(super) const ENDPOINT: &str = "CreateEndpoint + DeleteEndpoint";
pub(super) const MANY: usize = 16;

pub(super) const OURS: &str = "ciao";
pub(super) const IN_MEMORY: &str = "Docker's Go helpers, in memory";
pub(super) const DURABLE: &str = "Docker's Go helpers, a commit a change";

/// A daemon that is called.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    pub(super) by: &'static str,
    pub(super) socket: PathBuf,
    pub(super) pid: u32,
}

/// The daemon for addresses and that for networks, ours or a peer's.
pub(super) struct Pair {
    ipam: Daemon,
    pub(super) net: Daemon,
}

impl Pair {
    pub(super) fn ours(host: &Host) -> Result<Self> {
        let daemon = |socket, pid| Daemon { by: OURS, socket, pid };
        Ok(Self {
            ipam: daemon(host::ipam_socket(host), host.ciao_ipam().pid()?),
            net: daemon(host::net_socket(host), host.ciao_net().pid()?),
        })
    }

    pub(super) fn peers(peer: &Peer, by: &'static str) -> Self {
        let daemon = |socket| Daemon { by, socket, pid: peer.pid() };
        Self { ipam: daemon(peer.ipam_socket()), net: daemon(peer.net_socket()) }
    }
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
    pub(super) fn is(&self, by: &str, what: &str, clients: usize) -> bool {
        self.daemon.by == by
            && self.what == what
            && self.clients == clients
            && self.connections == Connections::KeptAlive
    }

    pub(super) fn connections_word(&self) -> &'static str {
        match self.connections {
            Connections::KeptAlive => "kept",
            Connections::New => "new each",
        }
    }
}

/// What a pair holds before it is measured: a pool, a network, and an endpoint for each client to join.
pub(super) struct Setting {
    pair: Pair,
    pool: String,
    pub(super) network: Network,
    joined: Vec<String>,
}

impl Setting {
    /// `number`: of the network, which for peers is in the host's namespace.
    pub(super) fn prepare(pair: Pair, number: u8) -> Result<Self> {
        let network = Network::numbered("bench", number);
        let pool = calls::request_pool(&pair.ipam.socket, "bench", &network.subnet, &format!("10.{number}.0.1"))?;
        let mut connection = Connection::open(&pair.net.socket, false)?;
        network.create(&mut connection)?;
        let joined: Vec<_> =
            (0..MANY).map(|client| calls::id("joined", &[MANY * usize::from(number) + client])).collect();
        Ok(Self { pair, pool, network, joined })
    }

    /// Creates the endpoints that are joined in a round: ours releases one that no container takes.
    pub(super) fn create_endpoints(&self) -> Result<()> {
        self.ask_each(|(number, endpoint)| self.network.create_endpoint(endpoint, 1000 + number))
    }

    pub(super) fn delete_endpoints(&self) -> Result<()> {
        self.ask_each(|(_, endpoint)| self.network.endpoint_call("/NetworkDriver.DeleteEndpoint", endpoint))
    }

    fn ask_each(&self, call: impl Fn((usize, &String)) -> Call) -> Result<()> {
        let mut connection = Connection::open(&self.pair.net.socket, false)?;
        self.joined.iter().enumerate().map(call).try_for_each(|call| connection.ask::<Value>(&call).map(drop))
    }

    pub(super) fn cases(&self) -> Vec<Case> {
        let pool = self.pool.clone();
        let lease: Make = Box::new(move |_| Box::new(Lease::new(&pool)));
        // ciao-net records each GetCapabilities, as the engine's start.
        let empty: Make = Box::new(|_| Box::new(Same::new(Call::bare("/Plugin.Activate"))));
        let (network, joined) = (self.network.clone(), self.joined.clone());
        let join: Make =
            Box::new(move |number| Box::new(Same::new(network.endpoint_call("/NetworkDriver.Join", &joined[number]))));
        let network = self.network.clone();
        let endpoint: Make = Box::new(move |number| Box::new(Endpoint::new(&network, number)));
        let Pair { ipam, net } = &self.pair;
        let kinds = [(LEASE, ipam, lease), (EMPTY, ipam, empty), (JOIN, net, join), (ENDPOINT, net, endpoint)];
        let mut cases = Vec::new();
        for (what, daemon, client) in kinds {
            let client = std::rc::Rc::new(client);
            for connections in [Connections::KeptAlive, Connections::New] {
                // What a new connection costs is our server's affair.
                if daemon.by != OURS && connections == Connections::New {
                    continue;
                }
                for clients in [1, MANY] {
                    cases.push(Case { what, daemon: daemon.clone(), clients, connections, client: client.clone() });
                }
            }
        }
        cases
    }
}
