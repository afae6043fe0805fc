// SPDX-License-Identifier: Apache-2.0
//! What another host says: any message is answered, and none of them takes what is not that host's.

use std::net::IpAddr;

use ciao_netdriver::exchange::Message;
use serde_json::{Value, json};

use crate::CALLS;
use crate::daemons::Socket;
use crate::host::Host;

/// Lines, each a message of host h2 to h1. Tenant red has 10.1.0.0/24 and VNI 101 here, with a container at 10.1.0.11.
pub fn peer(input: &[u8]) {
    let host = member();
    let from = "h2".parse().expect("a constant");
    for line in input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(CALLS) {
        let before = said(&host);
        let (answer, _) = host.driver().hear(&from, line).expect("the disk does not fail");
        host.driver().follow_lists();
        let answer: Value = serde_json::from_slice(&answer).expect("an answer is JSON");
        match Message::parse(line) {
            Ok(_) => assert!(answer["has"].is_object() || answer["has"].is_null(), "{answer}"),
            Err(error) => {
                assert_eq!(answer["refused"], json!(format!("{error:#}")));
                assert_eq!(said(&host), before, "a message that is refused changes nothing");
            }
        }
        let state = host.kernel.state();
        let taken: [IpAddr; 2] = [[10, 1, 0, 1].into(), [10, 1, 0, 11].into()];
        for (_, address) in state.neighbours.keys().map(|(_, bridge, address)| (bridge, address)) {
            assert!(!taken.contains(address) || is_own(&host, *address), "{address} is led to another host");
        }
        host.check_at_rest(&String::from_utf8_lossy(line));
    }
    host.leave();
}

/// Whether a neighbour is a container of this host.
fn is_own(host: &Host, address: IpAddr) -> bool {
    let vnics = host.store().read(|tx| tx.vnics(None)).expect("the disk does not fail");
    let state = host.kernel.state();
    let entry = state.neighbours.iter().find(|((.., known), _)| *known == address);
    vnics
        .iter()
        .any(|vnic| vnic.addresses().any(|own| own == address) && entry.is_some_and(|(_, mac)| *mac == vnic.mac))
}

/// What is recorded of other hosts.
fn said(host: &Host) -> Vec<serde_json::Map<String, Value>> {
    host.store().read(|tx| tx.view("remote", None)).expect("the disk does not fail")
}

/// A host of three.
fn member() -> Host {
    let mut host = Host::empty();
    host.kernel
        .change(|state| state.addresses.push(("192.0.2.0/24".parse().expect("a constant"), [192, 0, 2, 1].into())));
    let listed = |n: u8| json!({ "id": format!("h{n}"), "address": format!("192.0.2.{n}") });
    let hosts = json!({ "generation": 1, "hosts": [listed(1), listed(2), listed(3)] });
    let mut call = |socket, method: &str, target: &str, body: &Value| {
        let (status, reply) = host.call(socket, method, target, body.to_string().as_bytes());
        assert!(status < 300, "{target}: {reply}");
    };
    call(Socket::Control, "PUT", "/v1/hosts", &hosts);
    let vnic = json!({
        "tenant": "red", "instance": "web", "subnet": "10.1.0.0/24", "address": "10.1.0.11",
        "mac": "02:00:00:00:00:0b", "bridge": "br1",
    });
    call(Socket::Control, "POST", "/v1/vnics", &vnic);
    let network = json!({
        "NetworkID": "1".repeat(64),
        "Options": { "com.docker.network.generic": { "tenant": "red", "vni": "101", "bridge": "br1" } },
        "IPv4Data": [{ "AddressSpace": "LocalDefault", "Pool": "10.1.0.0/24", "Gateway": "10.1.0.1/24" }],
    });
    call(Socket::Net, "POST", "/NetworkDriver.CreateNetwork", &network);
    host
}
