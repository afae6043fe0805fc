// SPDX-License-Identifier: Apache-2.0
//! The recordings' lines; those of a swarm, by node.

use serde::Deserialize;
use serde_json::{Value, json};

/// A line of a recording.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    /// What the user did.
    Step { step: String },
    /// What the engine asked then.
    Call(Call),
}

/// A call and what the recording plugin answered.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Call {
    #[serde(default)]
    node: String,
    pub(crate) method: String,
    /// Null: the body was empty.
    pub(crate) request: Value,
    pub(crate) reply: Value,
}

impl Line {
    pub(crate) fn method(&self) -> Option<&str> {
        match self {
            Self::Step { .. } => None,
            Self::Call(call) => Some(&call.method),
        }
    }
}

/// The lines of a recording.
pub(crate) fn read(text: &str) -> Vec<Line> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The calls of one node of a swarm.
pub(crate) fn read_node(text: &str, node: &str) -> Vec<Call> {
    let calls = read(text).into_iter().filter_map(|line| match line {
        Line::Call(call) if call.node == node => Some(call),
        _ => None,
    });
    calls.collect()
}

/// In the swarm's recording one pool id and one address stand for everything. Here the leader's pool and the node's own
/// get an id each, and the gateway and the tasks the addresses that a good plugin would have given.
pub(crate) fn with_distinct_ids(calls: Vec<Call>) -> Vec<Line> {
    const GATEWAY: &str = "10.77.0.1";
    const TASKS: [&str; 2] = ["10.77.0.2", "10.77.0.3"];
    let leads = calls.iter().any(|call| call.method.ends_with("AllocateNetwork"));
    let own_task = if leads { TASKS[0] } else { TASKS[1] };
    let (mut pool, mut tasks, mut released) = (Value::Null, TASKS.into_iter(), 0);
    let mut lines = Vec::new();
    for mut call in calls {
        let request = &mut call.request;
        match call.method.as_str() {
            "IpamDriver.RequestPool" => {
                pool = json!(format!("pool in {}", request["AddressSpace"]));
                call.reply["PoolID"] = pool.clone();
            }
            "IpamDriver.RequestAddress" => {
                let is_gateway = request["Options"].get("RequestAddressType").is_some();
                let is_any = request["Address"] == "";
                let address = match (is_gateway, is_any) {
                    (true, _) => GATEWAY,
                    (false, true) => tasks.next().expect("the service has two tasks"),
                    (false, false) => own_task,
                };
                if !is_any {
                    request["Address"] = json!(address);
                }
                call.reply["Address"] = json!(format!("{address}/24"));
                request["PoolID"] = pool.clone();
            }
            "IpamDriver.ReleaseAddress" => {
                // The leader, which remembers pools by address, releases one of three; the node both of its own.
                request["Address"] = json!(if released == 0 { own_task } else { GATEWAY });
                request["PoolID"] = pool.clone();
                released += 1;
            }
            "IpamDriver.ReleasePool" => {
                request["PoolID"] = pool.clone();
                pool = json!("pool in \"l\"");
                released = 0;
            }
            // The leader's own comes first.
            "NetworkDriver.FreeNetwork" => pool = json!("pool in \"g\""),
            "NetworkDriver.AllocateNetwork" | "NetworkDriver.CreateNetwork" => {
                request["IPv4Data"][0]["Gateway"] = json!(format!("{GATEWAY}/24"));
            }
            "NetworkDriver.CreateEndpoint" => request["Interface"]["Address"] = json!(format!("{own_task}/24")),
            _ => {}
        }
        lines.push(Line::Call(call));
    }
    lines
}
