// SPDX-License-Identifier: Apache-2.0
//! The bodies of calls.

use std::collections::BTreeMap;

use ciao_common::types::Subnet;
use serde_json::{Value, json};

/// Docker's id of what a test calls by a short name.
pub(crate) fn id(name: &str) -> String {
    format!("{name:0<64}")
}

/// `CreateNetwork` of a network with those subnets, each with its first address as the gateway; no ciao-ipam.
pub(crate) fn network(name: &str, subnets: &[&str], options: &[(&str, &str)]) -> Value {
    network_in("LocalDefault", name, subnets, options)
}

pub(crate) fn network_in(space: &str, name: &str, subnets: &[&str], options: &[(&str, &str)]) -> Value {
    let data = |v6: bool| -> Vec<Value> {
        let meant = subnets.iter().filter(|subnet| subnet.contains(':') == v6);
        meant
            .map(|text| {
                let subnet: Subnet = text.parse().unwrap();
                let gateway = subnet.cidr(subnet.first_usable());
                json!({ "AddressSpace": space, "Pool": text, "Gateway": gateway, "AuxAddresses": {} })
            })
            .collect()
    };
    let generic: BTreeMap<_, _> = options.iter().copied().collect();
    json!({
        "NetworkID": id(name),
        "Options": { "com.docker.network.enable_ipv6": false, "com.docker.network.generic": generic },
        "IPv4Data": data(false),
        "IPv6Data": data(true),
    })
}

/// `CreateEndpoint` with those addresses (CIDR, v4 or v6, blanks between) and MAC address, or "".
pub(crate) fn endpoint(name: &str, network: &str, addresses: &str, mac: &str) -> Value {
    let find = |v6: bool| addresses.split_whitespace().find(|a| a.contains(':') == v6).unwrap_or_default();
    json!({
        "NetworkID": id(network),
        "EndpointID": id(name),
        "Interface": { "Address": find(false), "AddressIPv6": find(true), "MacAddress": mac },
        "Options": { "com.docker.network.endpoint.exposedports": [], "com.docker.network.portmap": [] },
    })
}

/// The argument of the calls that name an endpoint alone.
pub(crate) fn names_of(network: &str, endpoint: &str) -> Value {
    json!({ "NetworkID": id(network), "EndpointID": id(endpoint) })
}

/// A launcher's request.
pub(crate) fn vnic(tenant: &str, instance: &str, subnet: &str, address: &str, mac: &str) -> Value {
    json!({ "tenant": tenant, "instance": instance, "subnet": subnet, "address": address, "mac": mac })
}
