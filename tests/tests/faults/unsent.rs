// SPDX-License-Identifier: Apache-2.0
//! The calls that a plugin of local scope is never sent, because they are a swarm's: made to its socket through the
//! same wire and with the same faults. Each is made once more afterwards, as a swarm's manager does, and undone; then
//! nothing is left.

use std::thread::scope;
use std::time::Duration;

use ciao_tests::chance::Chance;
use ciao_tests::lab::Host;
use ciao_tests::proxy::call;
use ciao_tests::wired::Wired;
use serde_json::{Value, json};

use crate::scene::{Case, Table, Way, seen};

const WAYS: [Way; 7] = [
    Way::RequestLost,
    Way::ReplyLost,
    Way::ReplyCut,
    Way::ReplyLate,
    Way::CarriedOutTwice,
    Way::Killed,
    Way::KilledAtReply,
];

/// How long a call may take to reach its wire.
const PATIENCE: Duration = Duration::from_secs(5);
const SEED: u64 = 1;

/// A method and its request.
fn calls() -> [(&'static str, Value); 4] {
    let network = "6e65740000000000000000000000000000000000000000000000000000000000";
    let node = json!({ "DiscoveryType": 1, "DiscoveryData": { "Address": "192.0.2.7", "BindAddress": "192.0.2.7", "Self": false } });
    let pool = json!({ "AddressSpace": "global", "Pool": "10.7.0.0/24", "Gateway": "10.7.0.1/24", "AuxAddresses": {} });
    let network_request =
        json!({ "NetworkID": network, "Options": { "tenant": "red" }, "IPv4Data": [pool], "IPv6Data": [] });
    [
        ("NetworkDriver.AllocateNetwork", network_request),
        ("NetworkDriver.FreeNetwork", json!({ "NetworkID": network })),
        ("NetworkDriver.DiscoverNew", node.clone()),
        ("NetworkDriver.DiscoverDelete", node),
    ]
}

#[test]
fn the_calls_of_a_swarm_leak_nothing() {
    let wired = Wired::open(Host::builder().name("unsent")).unwrap();
    let socket = wired.host.path("/run/wire/ciao-net.sock");
    let (mut table, mut chance) = (Table::default(), Chance::new(SEED));
    for way in WAYS {
        for (method, request) in calls() {
            let make = || call(&socket, method, &request.to_string());
            let (proxy, daemon) = wired.behind(method);
            proxy.arm(method, way.fault(daemon, &mut chance));
            let printed = scope(|scope| {
                let printed = scope.spawn(make);
                assert!(proxy.has_fired(PATIENCE), "nobody was asked for {method}");
                if way.kills() {
                    daemon.start_again().unwrap();
                }
                printed.join().unwrap()
            });
            let printed = printed.map_or_else(|_| "no reply".to_owned(), |(status, _)| status.to_string());
            let next = match make() {
                Ok((200, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            };
            let differences = ciao_tests::checker::differences(&wired.host).unwrap();
            let docker = format!("{printed}; saw {}", seen(&proxy.calls(), method));
            table.add(Case { method, way, docker, repaired: String::new(), differences, next: Some(next) });
        }
    }
    table.finish("unsent");
}
