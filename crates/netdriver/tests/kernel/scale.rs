// SPDX-License-Identifier: Apache-2.0
//! What many addresses on other hosts cost.

use std::sync::Arc;
use std::time::Instant;

use ciao_common::serve::server::{Handler, Request};
use ciao_netdriver::control;
use ciao_netdriver::kernel::linux::Linux;
use ciao_netdriver::reconcile::Depth;
use ciao_netdriver::{Config, Driver};
use serde_json::{Value, json};

use crate::apart::{run, tests};
use crate::driver::{Bench, id};

const TENANTS: u16 = 15;
const ADDRESSES: u16 = 2000;

/// The part of a tenant's list from address `n` on.
fn remote(n: u16) -> Value {
    let [high, low] = (n + 16).to_be_bytes();
    json!([format!("10.1.{high}.{low}"), format!("02:00:00:00:{high:02x}:{low:02x}"), format!("h{}", n % 199 + 2)])
}

/// This process's memory, in KiB.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned()
}

tests! {
    #[ignore = "prints figures: make test-engines"]
    fn thirty_thousand_addresses_on_other_hosts(_kernel) {
        run("ip link add u0 type bridge");
        run("ip addr add 192.0.2.1/24 dev u0");
        run("ip link set u0 up");
        let bench = Bench::new();
        let control = control::routes(Arc::clone(&bench.driver));
        let ask = |method: &str, path: &str, body: &Value| {
            let body = body.to_string();
            let reply = control.handle(Request { method, path, query: "", body: body.as_bytes() });
            assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        };
        let hosts: Vec<_> = (1..=200).map(|n| json!({ "id": format!("h{n}"), "address": format!("192.0.2.{n}") })).collect();
        ask("PUT", "/v1/hosts", &json!({ "generation": 1, "hosts": hosts }));
        let data = json!([{ "AddressSpace": "LocalDefault", "Pool": "10.1.0.0/16", "Gateway": "10.1.0.1/16" }]);
        for tenant in 0..TENANTS {
            let name = format!("t{tenant:02}");
            let generic = json!({ "tenant": name, "bridge": "br0", "vni": (100 + tenant).to_string() });
            let options = json!({ "com.docker.network.generic": generic });
            bench.ok("CreateNetwork", &json!({ "NetworkID": id(&name), "Options": options, "IPv4Data": data }));
        }
        println!("before: {}", memory());
        let since = Instant::now();
        let remotes: Vec<_> = (0..ADDRESSES).map(remote).collect();
        for tenant in 0..TENANTS {
            let path = format!("/v1/tenants/t{tenant:02}/remotes");
            ask("PUT", &path, &json!({ "generation": 1, "remotes": remotes }));
        }
        println!("{TENANTS} lists of {ADDRESSES} addresses: {:?}, {}", since.elapsed(), memory());
        let since = Instant::now();
        for generation in 1..=10 {
            let body = json!({ "base": generation, "generation": generation + 1, "set": [remote(ADDRESSES + generation)] });
            ask("PATCH", "/v1/tenants/t07/remotes", &body);
        }
        println!("a change of one address: {:?}", since.elapsed() / 10);
        let since = Instant::now();
        assert_eq!(bench.driver.reconcile(Depth::Full), []);
        println!("a full reconcile: {:?}", since.elapsed());
        // Somebody else's rules: all elements are compared.
        run("nft add table inet other");
        let since = Instant::now();
        assert_eq!(bench.driver.reconcile(Depth::Full), []);
        println!("a full reconcile after a change of the host's rules: {:?}, {}", since.elapsed(), memory());
        let start = || {
            let kernel = Arc::new(Linux::new().unwrap());
            let driver = Driver::new(Arc::clone(&bench.store), kernel, Config::default()).unwrap();
            let done = driver.reconcile(Depth::Full);
            assert!(done.iter().all(|row| row.error.is_none()), "{done:?}");
            (done, driver)
        };
        let since = Instant::now();
        assert_eq!(start().0, []);
        println!("start after the daemon has ended: {:?}, {}", since.elapsed(), memory());
        // A reboot.
        for tenant in 0..TENANTS {
            run(&format!("ip netns del ciao-t{tenant:02}"));
        }
        run("nft flush ruleset");
        run("ip nexthop flush");
        let since = Instant::now();
        let (_, driver) = start();
        println!("start after a reboot: {:?}, {}", since.elapsed(), memory());
        assert_eq!(driver.reconcile(Depth::Full), []);
    }
}
