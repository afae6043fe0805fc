// SPDX-License-Identifier: Apache-2.0
//! Three managers of a swarm while leadership goes from one to another and back: what their engines asked of ciao-ipam.
//!
//! A line of a log is a time, then `> /Method body` for a request and `< status reply` for what was answered then. The
//! replies are of an allocator that never refused; ours may be others, but no request may be refused either, and what
//! somebody holds is never given to another one. What a node asks in its own space belongs to calls of ciao-net's,
//! which are not in these logs, and is passed over.

use std::collections::{BTreeMap, BTreeSet};

use ciao_common::store::Scope;
use serde_json::{Value, json};

use crate::host::Host;

const NODES: [(&str, &str); 3] = [
    ("m1", include_str!("../../wire/swarm-leader/m1-ipam.log")),
    ("m2", include_str!("../../wire/swarm-leader/m2-ipam.log")),
    ("m3", include_str!("../../wire/swarm-leader/m3-ipam.log")),
];

struct Node {
    host: Host,
    /// Recorded PoolIDs, and ours.
    pools: BTreeMap<String, String>,
    /// Recorded addresses of a recorded pool, and ours.
    addresses: BTreeMap<(String, String), String>,
    /// What somebody holds: our PoolID and address.
    held: BTreeSet<(String, String)>,
    /// Recorded PoolIDs of the node's own space.
    of_node: BTreeSet<String>,
}

impl Node {
    fn play(&mut self, method: &str, request: &Value, recorded: &Value) {
        let mut ours = request.clone();
        let pool = text(&request["PoolID"]);
        if let Some(id) = self.pools.get(&pool) {
            ours["PoolID"] = json!(id);
        }
        if let Some(address) = self.addresses.get(&(pool.clone(), text(&request["Address"]))) {
            ours["Address"] = json!(address);
        }
        if request["AddressSpace"] == "local" {
            self.of_node.insert(text(&recorded["PoolID"]));
        }
        if request["AddressSpace"] == "local" || self.of_node.contains(&pool) {
            return;
        }
        let reply = self.host.call(method, &ours);
        let id = text(&ours["PoolID"]);
        match method {
            "IpamDriver.RequestPool" => drop(self.pools.insert(text(&recorded["PoolID"]), text(&reply["PoolID"]))),
            "IpamDriver.RequestAddress" => {
                let given = bare(&text(&reply["Address"]));
                let is_gateway = ours["Options"].get("RequestAddressType").is_some();
                let is_new = self.held.insert((id, given.clone()));
                assert!(is_new || request["Address"] != "" || is_gateway, "{given} is given twice");
                self.addresses.insert((pool, bare(&text(&recorded["Address"]))), given);
            }
            "IpamDriver.ReleaseAddress" => drop(self.held.remove(&(id, text(&ours["Address"])))),
            _ => {}
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn bare(cidr: &str) -> String {
    cidr.split_once('/').map_or(cidr, |(address, _)| address).to_owned()
}

/// Plays a node's log; `prepare` comes before every call. Answers how many calls and how many leaderships there were.
fn play(log: &str, prepare: impl Fn(&mut Host)) -> (usize, usize) {
    let host = Host::new(Scope::Global);
    let (pools, addresses, held) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut node = Node { host, pools, addresses, held, of_node: BTreeSet::new() };
    let (mut calls, mut leaderships) = (0, 0);
    let mut asked = None;
    for line in log.lines() {
        let mut words = line.splitn(4, ' ').skip(1);
        match (words.next(), words.next(), words.next()) {
            (Some(">"), Some(path), body) => {
                let body = body
                    .filter(|body| !body.is_empty())
                    .map_or(Value::Null, |body| serde_json::from_str(body).unwrap());
                asked = Some((path.trim_start_matches('/').to_owned(), body));
            }
            (Some("<"), Some("200"), Some(reply)) => {
                let (method, request) = asked.take().expect("a request comes before its reply");
                prepare(&mut node.host);
                node.play(&method, &request, &serde_json::from_str(reply).unwrap());
                calls += 1;
                leaderships += usize::from(method.ends_with("GetCapabilities"));
            }
            _ => {}
        }
    }
    (calls, leaderships)
}

#[test]
fn a_change_of_a_swarm_s_leader_refuses_nothing_and_grants_nothing_twice() {
    for (name, log) in NODES {
        let (calls, leaderships) = play(log, |_| {});
        assert!(calls > 60 && leaderships > 1, "{name} is cut short: {calls} calls");
    }
}

#[test]
fn a_manager_s_daemon_killed_before_every_call_does_as_well() {
    for (_, log) in NODES {
        play(log, Host::restart);
    }
}
