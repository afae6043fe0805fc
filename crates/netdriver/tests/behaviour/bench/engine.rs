// SPDX-License-Identifier: Apache-2.0
//! What the engine does: pools and leases, containers that run and stop, its start, and what becomes of them all.

use std::collections::BTreeSet;

use ciao_common::types::{LinkName, Subnet};
use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::{FakeLink, State};
use serde_json::{Value, json};

use super::Bench;
use crate::requests::{endpoint, names_of};

/// Where containers' interfaces are while they run.
fn sandbox(endpoint: &str) -> Namespace {
    Namespace::Named(format!("sandbox-{endpoint}"))
}

impl Bench {
    /// `RequestPool` and the gateway, as `docker network create` asks for them. Answers the PoolID.
    pub(crate) fn pool(&self, subnet: &str, tenant: &str) -> String {
        let options = if tenant.is_empty() { json!({}) } else { json!({ "tenant": tenant }) };
        let v6 = subnet.contains(':');
        let reply = self.ipam(
            "RequestPool",
            &json!({ "AddressSpace": "local", "Pool": subnet, "SubPool": "", "Options": options, "V6": v6 }),
        );
        let pool = reply["PoolID"].as_str().unwrap().to_owned();
        let gateway = subnet.parse::<Subnet>().unwrap().first_usable();
        let options = json!({ "RequestAddressType": "com.docker.network.gateway" });
        self.ipam("RequestAddress", &json!({ "PoolID": pool, "Address": gateway, "Options": options }));
        pool
    }

    /// `RequestAddress`: any, or that one. Answers the CIDR.
    pub(crate) fn lease(&self, pool: &str, address: &str) -> String {
        let reply = self.ipam("RequestAddress", &json!({ "PoolID": pool, "Address": address, "Options": {} }));
        reply["Address"].as_str().unwrap().to_owned()
    }

    /// `Join`, and what the engine does then: the link goes into the sandbox. Answers the reply.
    pub(crate) fn join(&self, network: &str, endpoint: &str) -> Value {
        let mut body = names_of(network, endpoint);
        body["SandboxKey"] = json!(format!("/var/run/docker/netns/{endpoint}"));
        let reply = self.ok("Join", &body);
        let link: LinkName = reply["InterfaceName"]["SrcName"].as_str().unwrap().parse().unwrap();
        self.kernel.move_link(&link, &Namespace::Host, &sandbox(endpoint));
        reply
    }

    /// `docker run`: an endpoint made and joined. Answers `CreateEndpoint`'s reply.
    pub(crate) fn run(&self, name: &str, network: &str, addresses: &str, mac: &str) -> Value {
        let reply = self.ok("CreateEndpoint", &endpoint(name, network, addresses, mac));
        self.join(network, name);
        reply
    }

    /// `docker stop`, in the engine's order.
    pub(crate) fn stop(&self, network: &str, endpoint: &str) {
        let body = names_of(network, endpoint);
        self.ok("RevokeExternalConnectivity", &body);
        self.ok("Leave", &body);
        self.release_link(endpoint);
        self.ok("DeleteEndpoint", &body);
        self.settle();
    }

    /// The engine gives a container's link back.
    pub(crate) fn release_link(&self, endpoint: &str) {
        let state = self.kernel.state();
        for (_, link) in state.links.keys().filter(|(ns, _)| *ns == sandbox(endpoint)) {
            self.kernel.move_link(link, &sandbox(endpoint), &Namespace::Host);
        }
    }

    /// dockerd killed: the containers' namespaces die, with the links inside and their peers.
    pub(crate) fn kill_containers(&self) {
        self.kernel.change(|state| {
            let inside = |ns: &Namespace| ns.name().is_some_and(|name| name.starts_with("sandbox-"));
            let dead: BTreeSet<_> =
                state.links.keys().filter(|(ns, _)| inside(ns)).map(|(_, link)| link.clone()).collect();
            state.links.retain(|(ns, _), link| {
                !inside(ns) && !matches!(link, FakeLink::HostEnd(_, peer) if dead.contains(peer))
            });
        });
    }

    pub(crate) fn reboot(&self) {
        self.kernel.change(|state| *state = State::default());
    }

    /// All endpoints are an hour older than they were.
    pub(crate) fn age_endpoints(&self) {
        self.age_endpoints_by(60);
    }

    /// All endpoints are some minutes older than they were, and so is the engine's start.
    pub(crate) fn age_endpoints_by(&self, minutes: i64) {
        let conn = rusqlite::Connection::open(self.store.path()).unwrap();
        conn.execute("UPDATE endpoint_record SET created = created - ?1", [minutes * 60_000]).unwrap();
        conn.execute("UPDATE setting SET value = value - ?1 WHERE name = 'engine_started'", [minutes * 60_000])
            .unwrap();
    }

    /// The same of all networks.
    pub(crate) fn age_networks(&self) {
        let conn = rusqlite::Connection::open(self.store.path()).unwrap();
        conn.execute("UPDATE network_record SET created = created - 3600000", []).unwrap();
    }

    /// The engine starts: its first call.
    pub(crate) fn engine_starts(&self) {
        self.ok("GetCapabilities", &json!({}));
    }
}
