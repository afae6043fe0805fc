// SPDX-License-Identifier: Apache-2.0
//! Networks and endpoints: the records match Docker's lists.

use super::{World, short, text};

pub(super) fn check(world: &World, found: &mut Vec<String>) {
    networks(world, found);
    endpoints(world, found);
}

fn networks(world: &World, found: &mut Vec<String>) {
    for network in world.docker_networks("/Driver", "ciao-net") {
        if world.find("networks", "id", text(&network["Id"])).is_none() {
            found.push(format!("Docker's network {} is not recorded", text(&network["Name"])));
        }
    }
    for network in world.all("networks") {
        if world.find("docker_networks", "Id", text(&network["id"])).is_none() {
            found.push(format!("network {} is recorded, but not in Docker's list", short(text(&network["id"]))));
        }
    }
}

fn endpoints(world: &World, found: &mut Vec<String>) {
    let networks = world.docker_networks("/Driver", "ciao-net");
    let attached: Vec<_> = networks.flat_map(|network| world.attached(network)).collect();
    for at in &attached {
        let Some(endpoint) = world.find("endpoints", "id", at.endpoint) else {
            found.push(format!("endpoint {} of container {} is not recorded", short(at.endpoint), at.name));
            continue;
        };
        let recorded: Vec<_> = [&endpoint["address"], &endpoint["address6"]].into_iter().map(text).collect();
        let recorded: Vec<_> = recorded.into_iter().filter(|address| !address.is_empty()).collect();
        if recorded != at.addresses {
            let is = at.addresses.join(", ");
            found.push(format!("container {} has {is}, but its endpoint is recorded with {recorded:?}", at.name));
        }
        if endpoint["network"] != at.network {
            found.push(format!("container {} is recorded on another network than Docker says", at.name));
        }
    }
    for endpoint in world.all("endpoints") {
        let (id, address) = (text(&endpoint["id"]), text(&endpoint["address"]));
        if !attached.iter().any(|at| at.endpoint == id) {
            found.push(format!("endpoint {} with {address} is recorded, but not in Docker's list", short(id)));
        }
        if world.find("vnics", "id", text(&endpoint["vnic"])).is_none() {
            found.push(format!("endpoint {} with {address} has no VNIC", short(id)));
        }
    }
}
