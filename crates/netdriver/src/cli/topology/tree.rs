// SPDX-License-Identifier: Apache-2.0
//! What is drawn, out of the database's views.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use ciao_common::store::Tx;
use ciao_common::types::TenantId;
use serde_json::{Map, Value};

use super::draw::Node;

type Row = Map<String, Value>;

/// What is drawn: rows of the views for people, and the uplinks by namespace.
pub(super) struct Records {
    networks: Vec<Row>,
    vnics: Vec<Row>,
    ports: Vec<Row>,
    tunnels: Vec<Row>,
    remotes: Vec<Row>,
    uplinks: BTreeMap<String, String>,
}

impl Records {
    pub(super) fn read(tx: &Tx<'_>, tenant: Option<&TenantId>) -> Result<Self> {
        Ok(Self {
            networks: tx.view("network", tenant)?,
            vnics: tx.view("vnic", tenant)?,
            ports: tx.view("port", tenant)?,
            tunnels: tx.view("tunnel", tenant)?,
            remotes: tx.view("remote", tenant)?,
            uplinks: tx.uplinks()?.into_iter().map(|up| (up.namespace, up.host_link.to_string())).collect(),
        })
    }
}

/// A root for each namespace of each tenant: a tenant may have bridges of the host too.
pub(super) fn tree(records: &Records, names: &BTreeMap<String, String>) -> Vec<Node> {
    let mut places: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for row in records.networks.iter().chain(&records.vnics) {
        let place = (text(row, "tenant"), text(row, "namespace"));
        places.entry(place).or_default().insert(text(row, "bridge"));
    }
    let root = |((tenant, namespace), bridges): ((&str, &str), BTreeSet<&str>)| Node {
        text: joined([
            if tenant.is_empty() { "no tenant".to_owned() } else { format!("tenant {tenant}") },
            format!("namespace {namespace}"),
            records.uplinks.get(namespace).map_or_else(String::new, |link| format!("uplink {link}")),
        ]),
        below: bridges.into_iter().map(|name| bridge(records, names, (tenant, namespace, name))).collect(),
    };
    places.into_iter().map(root).collect()
}

fn bridge(records: &Records, names: &BTreeMap<String, String>, place: (&str, &str, &str)) -> Node {
    let is_here = |row: &&Row| (text(row, "tenant"), text(row, "namespace"), text(row, "bridge")) == place;
    let networks = records.networks.iter().filter(is_here).map(|row| Node {
        text: joined([
            format!("network {}", names.get(text(row, "network")).map_or(short(text(row, "network")), String::as_str)),
            text(row, "subnets").to_owned(),
            field(row, "gateways", "gateway"),
            // The usual one is left out: a line fits a terminal more often.
            if text(row, "egress") == "nat" { String::new() } else { field(row, "egress", "egress") },
            field(row, "host_access", "host access"),
            if text(row, "source") == "other hosts" { "on other hosts".to_owned() } else { String::new() },
        ]),
        below: tunnels(records, text(row, "network")),
    });
    let vnics = records.vnics.iter().filter(is_here).map(|row| vnic(records, names, row));
    Node { text: format!("bridge {}", place.2), below: networks.chain(vnics).collect() }
}

fn vnic(records: &Records, names: &BTreeMap<String, String>, row: &Row) -> Node {
    let endpoint = text(row, "endpoint");
    let attached = match names.get(endpoint) {
        _ if endpoint.is_empty() => "no container".to_owned(),
        Some(container) => format!("container {container}"),
        None => format!("endpoint {}", short(endpoint)),
    };
    let ports = records.ports.iter().filter(|port| !endpoint.is_empty() && text(port, "endpoint") == endpoint);
    Node {
        text: joined([
            format!("vnic {}", text(row, "id")),
            text(row, "address").to_owned(),
            text(row, "address6").to_owned(),
            text(row, "mac").to_owned(),
            text(row, "rate").to_owned(),
            field(row, "instance", "instance"),
            attached,
        ]),
        below: ports.map(|port| Node { text: published(port), below: Vec::new() }).collect(),
    }
}

/// `tcp 0.0.0.0:8080 -> 80`.
fn published(row: &Row) -> String {
    let number = |key: &str| row.get(key).and_then(Value::as_u64).and_then(|port| port.try_into().ok()).unwrap_or(0);
    let address = text(row, "host_address").parse().unwrap_or(IpAddr::from([0; 4]));
    let host = SocketAddr::new(address, number("host_port"));
    format!("{} {host} -> {}", text(row, "protocol"), number("container_port"))
}

/// A network's tunnel with the hosts that it leads to.
fn tunnels(records: &Records, network: &str) -> Vec<Node> {
    let node = |row: &Row| {
        let mut hosts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for remote in records.remotes.iter().filter(|remote| text(remote, "tenant") == text(row, "tenant")) {
            *hosts.entry((text(remote, "host"), text(remote, "host_address"))).or_default() += 1;
        }
        let host = |((id, address), count): ((&str, &str), u32)| Node {
            text: joined([format!("host {id}"), address.to_owned(), format!("{count} addresses")]),
            below: Vec::new(),
        };
        let vni = row.get("vni").map(Value::to_string).unwrap_or_default();
        Node { text: format!("tunnel, VNI {vni}"), below: hosts.into_iter().map(host).collect() }
    };
    records.tunnels.iter().filter(|row| text(row, "network") == network).map(node).collect()
}

fn text<'a>(row: &'a Row, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The beginning of an ID, as Docker prints it.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A field with its label; empty if there is none.
fn field(row: &Row, key: &str, label: &str) -> String {
    let value = text(row, key);
    if value.is_empty() { String::new() } else { format!("{label} {value}") }
}

fn joined<const N: usize>(parts: [String; N]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::draw::{drawn, graph};
    use super::*;

    fn rows(value: Value) -> Vec<Row> {
        serde_json::from_value(value).unwrap()
    }

    fn records() -> Records {
        let at = json!({ "tenant": "red", "namespace": "ciao-red", "bridge": "br1" });
        let with = |fields: Value| {
            let mut row = at.clone();
            fields.as_object().unwrap().iter().for_each(|(key, value)| row[key] = value.clone());
            row
        };
        let network =
            json!({ "network": "f2f925f69598", "subnets": "10.5.0.0/24", "gateways": "10.5.0.1", "egress": "nat" });
        let (web, db) = (
            json!({ "id": "a1", "address": "10.5.0.2", "mac": "02:00:00:00:00:02", "endpoint": "e1e1e1e1e1e1" }),
            json!({ "id": "b2", "address": "10.5.0.3", "mac": "02:00:00:00:00:03", "instance": "db", "rate": "1mbit" }),
        );
        Records {
            networks: rows(json!([with(network)])),
            vnics: rows(json!([with(web), with(db), { "id": "c3", "namespace": "(host)", "bridge": "lan" }])),
            ports: rows(json!([{ "protocol": "tcp", "host_address": "::", "host_port": 8080, "container_port": 80,
                "endpoint": "e1e1e1e1e1e1" }])),
            tunnels: rows(json!([{ "tenant": "red", "vni": 42, "network": "f2f925f69598" }])),
            remotes: rows(json!([{ "tenant": "red", "host": "h2", "host_address": "192.0.2.2" }])),
            uplinks: [("ciao-red".to_owned(), "cu1".to_owned())].into(),
        }
    }

    fn names() -> BTreeMap<String, String> {
        [("f2f925f69598", "app"), ("e1e1e1e1e1e1", "web")].map(|(id, name)| (id.to_owned(), name.to_owned())).into()
    }

    #[test]
    fn a_tree_has_tenants_bridges_networks_vnics_ports_and_tunnels() {
        let expected = "\
no tenant, namespace (host)
└─ bridge lan
   └─ vnic c3, no container
tenant red, namespace ciao-red, uplink cu1
└─ bridge br1
   ├─ network app, 10.5.0.0/24, gateway 10.5.0.1
   │  └─ tunnel, VNI 42
   │     └─ host h2, 192.0.2.2, 1 addresses
   ├─ vnic a1, 10.5.0.2, 02:00:00:00:00:02, container web
   │  └─ tcp [::]:8080 -> 80
   └─ vnic b2, 10.5.0.3, 02:00:00:00:00:03, 1mbit, instance db, no container
";
        assert_eq!(drawn(&tree(&records(), &names())), expected);
        let mut remote = records();
        remote.networks[0].insert("source".to_owned(), "other hosts".into());
        assert!(drawn(&tree(&remote, &names())).contains("gateway 10.5.0.1, on other hosts\n"));
        let mut closed = records();
        for (key, value) in [("egress", "none"), ("host_access", "5432/tcp")] {
            closed.networks[0].insert(key.to_owned(), value.into());
        }
        assert!(drawn(&tree(&closed, &names())).contains("gateway 10.5.0.1, egress none, host access 5432/tcp\n"));
        let without = drawn(&tree(&records(), &BTreeMap::new()));
        assert!(without.contains("network f2f925f69598,") && without.contains("endpoint e1e1e1e1e1e1"), "{without}");
    }

    #[test]
    fn a_graph_has_a_cluster_for_each_tenant_and_an_edge_to_each_thing_below() {
        let graph = graph(&tree(&records(), &names()));
        for line in [
            "graph ciao {",
            "  subgraph cluster_1 {",
            "    n3 [label=\"tenant red\\nnamespace ciao-red\\nuplink cu1\"];",
            "    n3 -- n4;",
            "    n4 -- n5;",
            "    n8 [label=\"vnic a1\\n10.5.0.2\\n02:00:00:00:00:02\\ncontainer web\"];",
        ] {
            assert!(graph.lines().any(|found| found == line), "{line} in {graph}");
        }
    }
}
