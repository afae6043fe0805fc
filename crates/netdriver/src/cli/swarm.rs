// SPDX-License-Identifier: Apache-2.0
//! Problems of a swarm that only its managers know: Docker accepts what its tasks cannot use.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use ciao_common::api::listing::is_plugin;
use ciao_common::serve::metrics::Problem;
use serde_json::Value;

use super::docker::Docker;

/// Docker's lists, as a manager has them.
#[derive(Default)]
struct Swarm {
    networks: Vec<Value>,
    services: Vec<Value>,
    nodes: Vec<Value>,
}

/// The problems of this engine's swarm; none if it is no manager of one.
pub(super) fn problems(docker: &Docker) -> Result<Vec<Problem>> {
    let client = docker.client()?;
    if client.get("/info")?.success()?["Swarm"]["ControlAvailable"] != true {
        return Ok(Vec::new());
    }
    let list = |path: &str| {
        let listed = client.get(path)?.success().with_context(|| format!("list the swarm's {}", &path[1..]))?;
        listed.as_array().cloned().with_context(|| format!("read dockerd's reply: its {} are not a list", &path[1..]))
    };
    let swarm = Swarm { networks: list("/networks")?, services: list("/services")?, nodes: list("/nodes")? };
    Ok(swarm.problems())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn problem(problem: String, remedy: &str) -> Problem {
    Problem::new("swarm", problem, remedy, false)
}

impl Swarm {
    fn problems(&self) -> Vec<Problem> {
        let of_swarm = self.networks.iter().filter(|network| network["Scope"] == "swarm");
        let (dead, alive): (Vec<_>, Vec<_>) = of_swarm.partition(|network| text(&network["Driver"]).is_empty());
        let ours: BTreeMap<_, _> = alive
            .into_iter()
            .filter(|network| is_plugin(text(&network["Driver"]), "ciao-net"))
            .map(|network| (text(&network["Id"]), network))
            .collect();
        let mut problems: Vec<_> = dead.into_iter().map(without_driver).collect();
        for service in &self.services {
            let addresses = service["Endpoint"]["VirtualIPs"].as_array().into_iter().flatten();
            problems.extend(addresses.filter_map(|at| {
                let network = ours.get(text(&at["NetworkID"]))?;
                Some(with_virtual_address(text(&service["Spec"]["Name"]), text(&at["Addr"]), network))
            }));
        }
        // Which plugin a task needs, and a network for which.
        let mut plugins = BTreeMap::new();
        for network in ours.values() {
            for plugin in [&network["Driver"], &network["IPAM"]["Driver"]].map(text) {
                if ["ciao-net", "ciao-ipam"].iter().any(|ours| is_plugin(plugin, ours)) {
                    plugins.entry(plugin).or_insert(text(&network["Name"]));
                }
            }
        }
        let runs_tasks = |node: &&Value| node["Status"]["State"] == "ready" && node["Spec"]["Availability"] == "active";
        for node in self.nodes.iter().filter(runs_tasks) {
            let engine = &node["Description"]["Engine"];
            let has = |name: &str| engine["Plugins"].as_array().into_iter().flatten().any(|one| one["Name"] == name);
            let missing = plugins.iter().filter(|(plugin, _)| !has(plugin));
            problems.extend(missing.map(|(plugin, network)| without_plugin(node, plugin, network)));
        }
        problems
    }
}

fn without_driver(network: &Value) -> Problem {
    let (name, id) = (text(&network["Name"]), text(&network["Id"]));
    problem(
        format!(
            "network {name} ({}) has no driver: the swarm's leader could not allocate it",
            id.get(..12).unwrap_or(id)
        ),
        "the log of the leader's dockerd has the reason, such as a plugin's name without its tag: remove the network, and \
         create it with -d ciao-net:latest --ipam-driver ciao-ipam:latest",
    )
}

fn with_virtual_address(service: &str, address: &str, network: &Value) -> Problem {
    let network = text(&network["Name"]);
    problem(
        format!(
            "service {service} has the virtual address {address} on network {network}, which nothing answers: Docker \
             serves those of its own overlay networks alone"
        ),
        &format!(
            "docker service update --endpoint-mode dnsrr {service} (tasks.{service} has the tasks' own addresses)"
        ),
    )
}

fn without_plugin(node: &Value, plugin: &str, network: &str) -> Problem {
    let name = text(&node["Description"]["Hostname"]);
    problem(
        format!("node {name} has no plugin {plugin}: no task on network {network} runs there"),
        &format!("make plugin on {name}, or docker plugin enable {plugin}; Docker notices it within half a minute"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(networks: Value, services: Value, nodes: Value) -> Vec<String> {
        let list = |value: Value| value.as_array().unwrap().clone();
        let swarm = Swarm { networks: list(networks), services: list(services), nodes: list(nodes) };
        swarm.problems().into_iter().map(|found| format!("{}\n{}", found.problem, found.remedy)).collect()
    }

    fn node(name: &str, plugins: &[&str]) -> Value {
        let plugins: Vec<_> = plugins.iter().map(|name| json!({ "Type": "Network", "Name": name })).collect();
        json!({
            "Spec": { "Availability": "active" }, "Status": { "State": "ready" },
            "Description": { "Hostname": name, "Engine": { "Plugins": plugins } },
        })
    }

    #[test]
    fn dead_networks_virtual_addresses_and_nodes_without_plugins_are_found() {
        let red = json!({
            "Name": "red", "Id": "r7", "Scope": "swarm", "Driver": "ciao-net:latest",
            "IPAM": { "Driver": "ciao-ipam:latest" },
        });
        let ingress = json!({ "Name": "ingress", "Id": "i7", "Scope": "swarm", "Driver": "overlay", "IPAM": { "Driver": "default" } });
        let dead = json!({ "Name": "blue", "Id": "3b4icej7gs0tdf66h2gt8uwq6", "Scope": "swarm", "Driver": "", "IPAM": { "Driver": "" } });
        let local = json!({ "Name": "app", "Id": "a7", "Scope": "local", "Driver": "ciao-net", "IPAM": { "Driver": "ciao-ipam" } });
        let vip = json!({
            "Spec": { "Name": "web" },
            "Endpoint": { "VirtualIPs": [{ "NetworkID": "i7", "Addr": "10.0.0.3/24" }, { "NetworkID": "r7", "Addr": "10.77.0.2/24" }] },
        });
        let dnsrr = json!({ "Spec": { "Name": "db" }, "Endpoint": { "Spec": { "Mode": "dnsrr" } } });
        let both = ["ciao-ipam:latest", "ciao-net:latest"];
        let mut drained = node("m4", &[]);
        drained["Spec"]["Availability"] = json!("drain");
        let mut down = node("m5", &[]);
        down["Status"]["State"] = json!("down");
        let nodes = json!([node("m1", &both), node("m2", &both[..1]), node("m3", &["ciao-net"]), drained, down]);

        let all = found(json!([red, ingress, dead, local]), json!([vip, dnsrr]), nodes.clone());
        let expected = [
            ("network blue (3b4icej7gs0t) has no driver", "-d ciao-net:latest --ipam-driver ciao-ipam:latest"),
            ("service web has the virtual address 10.77.0.2/24 on network red", "update --endpoint-mode dnsrr web"),
            ("node m2 has no plugin ciao-net:latest: no task on network red", "docker plugin enable ciao-net:latest"),
            ("node m3 has no plugin ciao-ipam:latest", "make plugin on m3"),
            ("node m3 has no plugin ciao-net:latest", "make plugin on m3"),
        ];
        assert_eq!(all.len(), expected.len(), "{all:#?}");
        for (found, (problem, remedy)) in all.iter().zip(expected) {
            assert!(found.starts_with(problem) && found.contains(remedy), "{found}");
        }
        assert_eq!(found(json!([ingress, local]), json!([vip]), nodes), Vec::<String>::new());
    }
}
