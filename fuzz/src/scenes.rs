// SPDX-License-Identifier: Apache-2.0
//! A host where something runs: two tenants with the same subnet, launchers' VNICs, containers, a published port.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::daemons::Socket;
use crate::host::{Host, Template};
use crate::lines::{control_line, driver_line};

/// Docker's id of what is called by a short name.
pub(crate) fn id(name: &str) -> String {
    format!("{name:0<64}")
}

/// A host with networks, VNICs and containers.
pub(crate) fn busy() -> Host {
    static BUSY: OnceLock<Template> = OnceLock::new();
    BUSY.get_or_init(|| Template::of(make_busy)).host()
}

fn make_busy(host: &mut Host) {
    for (tenant, network) in [("red", "n1"), ("blue", "n2")] {
        let pool = json!({ "AddressSpace": "local", "Pool": "10.1.0.0/28", "Options": { "tenant": tenant } });
        ipam(host, "RequestPool", &pool);
        let pool = host.pools.last().cloned();
        let gateway = json!({ "RequestAddressType": "com.docker.network.gateway" });
        ipam(host, "RequestAddress", &json!({ "PoolID": pool, "Address": "10.1.0.1", "Options": gateway }));
        ipam(host, "RequestAddress", &json!({ "PoolID": pool, "Address": "" }));
        net(
            host,
            "CreateNetwork",
            &json!({
                "NetworkID": id(network),
                "Options": { "com.docker.network.generic": { "tenant": tenant, "bridge": "br1" } },
                "IPv4Data": [{ "AddressSpace": "local", "Pool": "10.1.0.0/28", "Gateway": "10.1.0.1/28" }],
                "IPv6Data": [],
            }),
        );
        let vnic = json!({
            "tenant": tenant, "instance": "i1", "subnet": "10.1.0.0/28", "address": "10.1.0.9",
            "mac": "02:00:00:00:00:09", "bridge": "br1",
        });
        control_line(host, format!("POST /v1/vnics {vnic}").as_bytes());
        let (one, two) = (format!("{network}e1"), format!("{network}e2"));
        run(host, network, &one, "10.1.0.2/28");
        run(host, network, &two, "10.1.0.9/28");
    }
    let ports = json!([{ "Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8090 }]);
    let mut request = json!({ "NetworkID": id("n1"), "EndpointID": id("n1e1") });
    request["Options"] = json!({ "com.docker.network.portmap": ports });
    net(host, "ProgramExternalConnectivity", &request);
    assert_eq!(host.vnics.len(), 2, "the launchers have their VNICs");
}

fn run(host: &mut Host, network: &str, endpoint: &str, address: &str) {
    let names = json!({ "NetworkID": id(network), "EndpointID": id(endpoint) });
    let mut request = names.clone();
    request["Interface"] = json!({ "Address": address, "AddressIPv6": "", "MacAddress": "" });
    net(host, "CreateEndpoint", &request);
    net(host, "Join", &names);
}

/// A call to ciao-ipam.
pub(crate) fn ipam(host: &mut Host, method: &str, body: &Value) {
    driver_line(host, "IpamDriver", format!("{method} {body}").as_bytes());
}

/// A call to ciao-net.
pub(crate) fn net(host: &mut Host, method: &str, body: &Value) {
    driver_line(host, "NetworkDriver", format!("{method} {body}").as_bytes());
}

/// A launcher's question.
pub(crate) fn look(host: &mut Host, target: &str) {
    host.call(Socket::Control, "GET", target, b"");
}
