// SPDX-License-Identifier: Apache-2.0
//! Links, namespaces and rules: what is recorded is there, and what is there is recorded.

use serde_json::Value;

use super::{World, text};

pub(super) fn check(world: &World, found: &mut Vec<String>) {
    for vnic in world.all("vnics") {
        self::vnic(world, vnic, found);
    }
    for network in world.all("networks") {
        let (namespace, bridge) = (&network["namespace"], text(&network["bridge"]));
        if !has_link(world, namespace, bridge) {
            found.push(format!("bridge {bridge} of {} is not there", place(namespace)));
        }
    }
    for uplink in world.all("uplinks") {
        let (namespace, link) = (&uplink["namespace"], text(&uplink["host_link"]));
        if !has_link(world, &Value::Null, link) || !has_link(world, namespace, "up0") {
            found.push(format!("uplink {link} of {} is not there", place(namespace)));
        }
        let leaves = |network: &&Value| network["namespace"] == *namespace && network["egress"] == "nat";
        if !world.all("networks").iter().any(|network| leaves(&network)) {
            found.push(format!("uplink {link} is recorded, but no network of {} leaves by it", place(namespace)));
        }
    }
    foreign(world, found);
    ports(world, found);
}

fn place(namespace: &Value) -> &str {
    namespace.as_str().unwrap_or("the host")
}

fn links<'a>(world: &'a World, namespace: &Value) -> &'a [Value] {
    let links = match namespace.as_str() {
        None => &world.facts["host_links"],
        Some(name) => &world.facts["namespaces"][name]["links"],
    };
    links.as_array().map_or(&[], Vec::as_slice)
}

fn has_link(world: &World, namespace: &Value, name: &str) -> bool {
    links(world, namespace).iter().any(|link| link["ifname"] == name)
}

/// A VNIC has an owner, and its links are where they should be: one end on the bridge, the other in its
/// container, or in the host's namespace as long as none has it.
fn vnic(world: &World, vnic: &Value, found: &mut Vec<String>) {
    let (id, mac) = (text(&vnic["id"]), text(&vnic["mac"]));
    if vnic["state"] != "live" {
        found.push(format!("VNIC {id} is half deleted"));
        return;
    }
    let endpoint = world.find("endpoints", "vnic", id);
    if vnic["owner"] == "docker" && endpoint.is_none() {
        found.push(format!("VNIC {id} of Docker's has no endpoint"));
    }
    if !has_link(world, &vnic["namespace"], text(&vnic["host_link"])) {
        found.push(format!("link {} of VNIC {id} is not there", text(&vnic["host_link"])));
    }
    let networks = world.docker_networks("/Driver", "ciao-net");
    let mut attached = networks.flat_map(|network| world.attached(network));
    let container = endpoint.and_then(|endpoint| attached.find(|at| endpoint["id"] == at.endpoint));
    let container_link = text(&vnic["container_link"]);
    match container {
        Some(at) => {
            let inside = world.facts["inside"][at.container].as_array().map_or(&[][..], Vec::as_slice);
            if at.mac != mac || !inside.iter().any(|link| link["address"] == mac) {
                found.push(format!("container {} has no link with the MAC address {mac} of VNIC {id}", at.name));
            }
        }
        None if !has_link(world, &Value::Null, container_link) => {
            found.push(format!("link {container_link} of VNIC {id}, which no container has, is not on the host"));
        }
        None => {}
    }
    if vnic["namespace"].is_string() && !macs(world, text(&vnic["namespace"])).any(|(_, has)| has == mac) {
        found.push(format!("the rules lack the MAC address {mac} of VNIC {id}"));
    }
}

/// Which link may have which MAC address, by the rules of a namespace.
fn macs<'a>(world: &'a World, namespace: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let printed = world.facts["namespaces"][namespace]["macs"]["nftables"].as_array().into_iter().flatten();
    let elements = printed.filter_map(|part| part["set"]["elem"].as_array()).flatten();
    elements.map(|element| (text(&element["concat"][0]), text(&element["concat"][1])))
}

/// Links, namespaces and rules that look like ours and that no record stands for.
fn foreign(world: &World, found: &mut Vec<String>) {
    let vnic_has = |field: &str, link: &str| world.find("vnics", field, link).is_some();
    for link in links(world, &Value::Null).iter().map(|link| text(&link["ifname"])) {
        let form = link.len() == 12 && ["cv", "hv", "cu"].iter().any(|prefix| link.starts_with(prefix));
        let known = vnic_has("container_link", link)
            || vnic_has("host_link", link)
            || world.find("uplinks", "host_link", link).is_some();
        if form && !known {
            found.push(format!("link {link} of the host has no record"));
        }
    }
    for (name, inside) in world.facts["namespaces"].as_object().into_iter().flatten() {
        let uses = |what| world.find(what, "namespace", name).is_some();
        if !uses("networks") && !uses("vnics") {
            found.push(format!("network namespace {name} has no record"));
            continue;
        }
        for link in inside["links"].as_array().into_iter().flatten().map(|link| text(&link["ifname"])) {
            let bridge = |what: &str| world.all(what).iter().any(|r| r["namespace"] == *name && r["bridge"] == link);
            let uplink = link == "up0" && uses("uplinks");
            if link != "lo" && !uplink && !vnic_has("host_link", link) && !bridge("networks") && !bridge("vnics") {
                found.push(format!("link {link} of network namespace {name} has no record"));
            }
        }
        for (link, mac) in macs(world, name).filter(|(link, _)| !vnic_has("host_link", link)) {
            found.push(format!("the rules of {name} have {mac} on {link}, which has no record"));
        }
    }
}

/// Each published port stands in the host's rules, and nothing else does.
fn ports(world: &World, found: &mut Vec<String>) {
    let printed = world.facts["host_rules"]["nftables"].as_array().into_iter().flatten();
    let is_ports = |part: &&Value| part["map"]["name"].as_str().is_some_and(|name| name.starts_with("ports"));
    let elements = printed.filter(is_ports).filter_map(|part| part["map"]["elem"].as_array()).flatten().count();
    let recorded = world.all("ports").len();
    if elements != recorded {
        found.push(format!("{recorded} published ports are recorded, but the host's rules have {elements}"));
    }
}
