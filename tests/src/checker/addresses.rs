// SPDX-License-Identifier: Apache-2.0
//! Pools and addresses: every one that is held has somebody who holds it, and nobody has one that is not held.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{World, bare, text};

pub(super) fn check(world: &World, found: &mut Vec<String>) {
    references(world, found);
    for set in world.all("sets") {
        let networks = networks_on(world, set);
        held(world, set, &networks, found);
        granted(world, set, &networks, found);
        whole(world, set, found);
    }
}

/// The ranges of addresses that a network of Docker's has.
fn configs(network: &Value) -> impl Iterator<Item = &Value> {
    network["IPAM"]["Config"].as_array().into_iter().flatten()
}

fn tenant(network: &Value) -> &str {
    text(&network["IPAM"]["Options"]["tenant"])
}

/// Each pool is referred to as often as Docker has networks on it.
fn references(world: &World, found: &mut Vec<String>) {
    let mut counts = BTreeMap::<(&str, &str, &str), (i64, i64)>::new();
    for pool in world.all("pools") {
        let key = (text(&pool["tenant"]), text(&pool["subnet"]), text(&pool["sub_pool"]));
        counts.entry(key).or_default().0 += pool["refs"].as_i64().unwrap_or_default();
    }
    for network in world.docker_networks("/IPAM/Driver", "ciao-ipam") {
        for config in configs(network) {
            let key = (tenant(network), text(&config["Subnet"]), text(&config["IPRange"]));
            counts.entry(key).or_default().1 += 1;
        }
    }
    for ((tenant, subnet, sub_pool), (refs, networks)) in counts {
        if refs != networks {
            let pool = format!("pool {subnet} {sub_pool} of tenant {tenant:?}");
            found.push(format!("{pool} is held {refs} times, but {networks} of Docker's networks are on it"));
        }
    }
}

/// Docker's networks on a set: as ciao-net says, or, for another driver's, those with its tenant and subnet.
fn networks_on<'a>(world: &'a World, set: &'a Value) -> Vec<&'a Value> {
    let on: Vec<_> = world.all("subnets").iter().filter(|row| row["set_id"] == set["id"]).collect();
    let networks = world.docker_networks("/IPAM/Driver", "ciao-ipam");
    let is_on = |network: &&Value| {
        if on.is_empty() {
            let ours = network["Driver"] == "ciao-net";
            return !ours
                && tenant(network) == text(&set["tenant"])
                && configs(network).any(|c| c["Subnet"] == set["subnet"]);
        }
        on.iter().any(|row| row["network"] == network["Id"])
    };
    networks.filter(is_on).collect()
}

/// Every address that is taken is a container's, a gateway, an auxiliary address, or a launcher's.
fn held(world: &World, set: &Value, networks: &[&Value], found: &mut Vec<String>) {
    for row in world.all("addresses").iter().filter(|row| row["set_id"] == set["id"]) {
        let address = text(&row["address"]);
        let gateways =
            networks.iter().flat_map(|network| configs(network)).filter(|c| is_gateway(c, set, address)).count();
        let is_right = match text(&row["kind"]) {
            "gateway" => row["held"] == gateways,
            "reserved" => reserved(world, set, address),
            _ => holders(world, networks, address).len() == 1 || is_aux(networks, address),
        };
        if !is_right {
            let (kind, held) = (text(&row["kind"]), &row["held"]);
            let holders = holders(world, networks, address);
            found.push(format!(
                "address {address} of pool {} is taken as {kind} (held {held}), but Docker's holders are {holders:?} and {gateways} gateways",
                text(&set["subnet"])
            ));
        }
    }
}

/// Whether an address is a network's gateway. Engines before 28 tell of one only if the user gave it.
fn is_gateway(config: &Value, set: &Value, address: &str) -> bool {
    let gateway = bare(text(&config["Gateway"]));
    config["Subnet"] == set["subnet"] && (gateway.is_empty() || gateway == address)
}

/// The containers on a set that have an address.
fn holders<'a>(world: &'a World, networks: &[&'a Value], address: &str) -> Vec<&'a str> {
    let attached = networks.iter().flat_map(|network| world.attached(network));
    attached.filter(|at| at.addresses.contains(&address)).map(|at| at.name).collect()
}

fn is_aux(networks: &[&Value], address: &str) -> bool {
    let auxiliary = |config: &Value| {
        let addresses = config["AuxiliaryAddresses"].as_object().into_iter().flatten();
        addresses.map(|(_, one)| bare(text(one))).any(|one| one == address)
    };
    networks.iter().flat_map(|network| configs(network)).any(auxiliary)
}

fn reserved(world: &World, set: &Value, address: &str) -> bool {
    world.all("vnics").iter().any(|vnic| {
        let at = [("subnet", "address"), ("subnet6", "address6")];
        let here = at.iter().any(|(subnet, has)| vnic[subnet] == set["subnet"] && vnic[has] == address);
        vnic["owner"] == "launcher" && vnic["state"] == "live" && here
    })
}

/// Of an address or a subnet: what tells IPv6 from IPv4.
fn family(address: &str) -> bool {
    address.contains(':')
}

/// Nobody has an address that is not held, or that somebody else has.
fn granted(world: &World, set: &Value, networks: &[&Value], found: &mut Vec<String>) {
    let rows = world.all("addresses").iter().filter(|row| row["set_id"] == set["id"] && row["held"] != 0);
    let held: Vec<&str> = rows.map(|row| text(&row["address"])).collect();
    let mut seen = Vec::new();
    for at in networks.iter().flat_map(|network| world.attached(network)) {
        for address in at.addresses.into_iter().filter(|address| family(address) == family(text(&set["subnet"]))) {
            if !held.contains(&address) {
                found.push(format!("container {} has {address}, but no lease holds it", at.name));
            }
            if seen.contains(&address) {
                found.push(format!("container {} has {address}, and so has another one", at.name));
            }
            seen.push(address);
        }
    }
    for config in networks.iter().flat_map(|network| configs(network)) {
        let gateway = bare(text(&config["Gateway"]));
        if config["Subnet"] == set["subnet"] && !gateway.is_empty() && !held.contains(&gateway) {
            found.push(format!("gateway {gateway} of {} is not held", text(&set["subnet"])));
        }
    }
}

/// Free runs and taken addresses make up the set, without a gap and without an address twice.
fn whole(world: &World, set: &Value, found: &mut Vec<String>) {
    let number = |hex: &Value| u128::from_str_radix(text(hex), 16).unwrap_or_default();
    let of = |what: &str| world.all(what).iter().filter(|row| row["set_id"] == set["id"]).collect::<Vec<_>>();
    let mut pieces: Vec<_> = of("ranges").iter().map(|run| (number(&run["first"]), number(&run["last"]))).collect();
    pieces.extend(of("addresses").iter().map(|row| (number(&row["key"]), number(&row["key"]))));
    pieces.sort_unstable();
    let Some(bounds) = world.all("bounds").iter().find(|row| row["id"] == set["id"]) else { return };
    let joined = pieces.windows(2).all(|pair| pair[0].1.checked_add(1) == Some(pair[1].0));
    let ends = pieces.first().zip(pieces.last()).map(|(first, last)| (first.0, last.1));
    if !joined || ends != Some((number(&bounds["first"]), number(&bounds["last"]))) {
        found.push(format!("free and taken addresses do not make up pool {}", text(&set["subnet"])));
    }
}
