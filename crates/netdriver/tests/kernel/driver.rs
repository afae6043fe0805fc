// SPDX-License-Identifier: Apache-2.0
//! The driver on the running kernel: what its namespaces, bridges and rules come to together.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use ciao_common::serve::every::every;
use ciao_common::serve::server::{Handler, Request};
use ciao_common::store::Store;
use ciao_common::types::{LinkName, Subnet};
use ciao_netdriver::kernel::linux::Linux;
use ciao_netdriver::kernel::{Links, Namespace, Namespaces, Rules};
use ciao_netdriver::reconcile::{Depth, Watcher};
use ciao_netdriver::{Config, Driver, EgressPolicy, Shares, TunnelConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::apart::{answers, answers_once, into_container, name, run, soon, tests};

/// The TCP port of the exchange, where there is one.
pub(crate) const EXCHANGE_PORT: u16 = 14789;

/// A driver on the running kernel.
pub(crate) struct Bench {
    pub(crate) driver: Arc<Driver>,
    pub(crate) store: Arc<Store>,
    folder: TempDir,
}

pub(crate) fn id(name: &str) -> String {
    format!("{name:0<64}")
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        Self::on(store, folder)
    }

    fn on(store: Arc<Store>, folder: TempDir) -> Self {
        Self::configured(store, folder, Config::default())
    }

    fn configured(store: Arc<Store>, folder: TempDir, config: Config) -> Self {
        let kernel = Arc::new(Linux::new().unwrap());
        let driver = Arc::new(Driver::new(Arc::clone(&store), kernel, config).unwrap());
        Self { driver, store, folder }
    }

    /// With tunnels that leave by such a link, and what is denied to tenants.
    pub(crate) fn with_tunnel(link: Option<LinkName>, deny: Vec<Subnet>) -> Self {
        let tunnel = TunnelConfig { link, exchange: Some(EXCHANGE_PORT), ..Config::default().tunnel };
        let egress = EgressPolicy { deny, ..EgressPolicy::default() };
        Self::with(Config { tunnel, egress, ..Config::default() })
    }

    /// With such shares of what tenants have in common.
    pub(crate) fn with_shares(shares: Shares) -> Self {
        Self::with(Config { shares, ..Config::default() })
    }

    pub(crate) fn with(config: Config) -> Self {
        let Self { store, folder, .. } = Self::new();
        Self::configured(store, folder, config)
    }

    /// Restores what changes, as the daemon does, until the test's process ends. Nothing is on a timer.
    pub(crate) fn watch(&self) {
        let mut watcher = Watcher::new(Arc::clone(&self.driver), Duration::from_secs(3600));
        std::mem::forget(every("reconcile", Duration::from_millis(1), move || watcher.step()).unwrap());
    }

    pub(crate) fn ok(&self, method: &str, body: &Value) -> Value {
        let (status, value) = self.ask(method, body);
        assert_eq!(status, 200, "{value}");
        value
    }

    pub(crate) fn ask(&self, method: &str, body: &Value) -> (u16, Value) {
        let plugin = ciao_netdriver::docker::plugin(Arc::clone(&self.driver));
        let path = format!("/NetworkDriver.{method}");
        let body = body.to_string();
        let reply = plugin.handle(Request { method: "POST", path: &path, query: "", body: body.as_bytes() });
        (reply.status, serde_json::from_slice(&reply.body).unwrap())
    }

    /// A tenant's network 10.1.0.0/24 on bridge br0.
    pub(crate) fn network(&self, tenant: &str, egress: &str) {
        let data = json!([{ "AddressSpace": "LocalDefault", "Pool": "10.1.0.0/24", "Gateway": "10.1.0.1/24" }]);
        let generic = json!({ "tenant": tenant, "bridge": "br0", "egress": egress });
        let options = json!({ "com.docker.network.generic": generic });
        self.ok("CreateNetwork", &json!({ "NetworkID": id(tenant), "Options": options, "IPv4Data": data }));
    }

    pub(crate) fn restarted(self) -> Self {
        let Self { store, folder, driver } = self;
        drop(driver);
        Self::on(store, folder)
    }

    pub(crate) fn publish(&self, tenant: &str, n: u8, port: u16) {
        self.publish_as(6, tenant, n, port);
    }

    /// Of a protocol by its number.
    pub(crate) fn publish_as(&self, protocol: u8, tenant: &str, n: u8, port: u16) {
        let binding = json!({ "Proto": protocol, "Port": 80, "HostIP": "", "HostPort": port, "HostPortEnd": port });
        let options = json!({ "com.docker.network.portmap": [binding] });
        let ids = json!({ "NetworkID": id(tenant), "EndpointID": id(&format!("e{n}")), "Options": options });
        self.ok("ProgramExternalConnectivity", &ids);
    }

    /// Container `box{n}` on a tenant's network.
    pub(crate) fn run(&self, tenant: &str, n: u8, address: &str) {
        self.run_as(tenant, n, address, None);
    }

    /// The same, with an IPv6 address too.
    pub(crate) fn run_dual(&self, tenant: &str, n: u8, address: &str, address6: &str) {
        self.attach(tenant, n, &json!({ "Address": address, "AddressIPv6": address6 }), &[address, address6]);
    }

    /// The same, with an IPv6 address alone.
    pub(crate) fn run_v6(&self, tenant: &str, n: u8, address6: &str) {
        self.attach_only(tenant, n, &json!({ "AddressIPv6": address6 }), &[address6]);
    }

    /// The same, with a MAC address of the user's choice.
    pub(crate) fn run_as(&self, tenant: &str, n: u8, address: &str, mac: Option<&str>) {
        let interface = json!({ "Address": address, "MacAddress": mac.unwrap_or_default() });
        self.attach(tenant, n, &interface, &[address]);
    }

    fn attach(&self, tenant: &str, n: u8, interface: &Value, addresses: &[&str]) {
        self.attach_only(tenant, n, interface, addresses);
        // 10.1.0.1, or that of another subnet.
        let subnet = addresses[0].rsplit_once('.').unwrap().0;
        run(&format!("ip -n box{n} route add default via {subnet}.1"));
    }

    pub(crate) fn attach_only(&self, tenant: &str, n: u8, interface: &Value, addresses: &[&str]) {
        let ids = json!({ "NetworkID": id(tenant), "EndpointID": id(&format!("e{n}")) });
        let mut body = ids.clone();
        body["Interface"] = interface.clone();
        self.ok("CreateEndpoint", &body);
        let link = self.ok("Join", &ids)["InterfaceName"]["SrcName"].as_str().unwrap().parse().unwrap();
        into_container(&link, &format!("box{n}"), addresses);
    }

    pub(crate) fn stop(&self, tenant: &str, n: u8) {
        run(&format!("ip netns del box{n}"));
        let ids = json!({ "NetworkID": id(tenant), "EndpointID": id(&format!("e{n}")) });
        self.ok("Leave", &ids);
        self.ok("DeleteEndpoint", &ids);
    }
}

tests! {
    fn a_driver_on_this_kernel_makes_networks_and_leaves_nothing(kernel) {
        let bench = Bench::new();
        for (tenant, n) in [("red", 2), ("blue", 4)] {
            bench.network(tenant, "nat");
            for (n, address) in [(n, "10.1.0.2/24"), (n + 1, "10.1.0.3/24")] {
                bench.run(tenant, n, address);
            }
        }
        assert!(answers("box2", "10.1.0.3") && answers("box4", "10.1.0.3"));
        assert!(answers("box2", "10.1.0.1"), "the gateway");
        // Somebody else's address: its answers must not come.
        run("ip -n box3 addr add 10.1.0.77/24 dev eth0");
        assert!(!answers_once("box2", "10.1.0.77"), "box3 speaks for its own address only");
        assert_eq!(bench.driver.reconcile(Depth::Full), []);
        for (tenant, n) in [("red", 2), ("red", 3), ("blue", 4), ("blue", 5)] {
            bench.stop(tenant, n);
        }
        for tenant in ["red", "blue"] {
            bench.ok("DeleteNetwork", &json!({ "NetworkID": id(tenant) }));
        }
        assert_eq!(kernel.namespaces().unwrap(), [""; 0]);
        assert!(soon(|| kernel.links(&Namespace::Host).unwrap() == [name("lo")]));
        assert!(!kernel.has_rules(&Namespace::Host).unwrap());
    }

    fn a_deleted_bridge_is_restored_with_its_ports(_kernel) {
        let bench = Bench::new();
        bench.network("red", "nat");
        bench.run("red", 2, "10.1.0.2/24");
        bench.run("red", 3, "10.1.0.3/24");
        assert!(answers("box2", "10.1.0.3"));
        run("ip -n ciao-red link del br0");
        bench.driver.reconcile(Depth::Full);
        assert!(answers("box2", "10.1.0.1"), "the gateway");
        assert!(answers("box2", "10.1.0.3"), "the neighbour");
    }

    fn a_tenant_reaches_the_host_s_side_only_through_its_uplink(_kernel) {
        run("ip link add wan0 type bridge");
        run("ip addr add 192.0.2.1/24 dev wan0");
        run("ip link set wan0 up");
        let bench = Bench::new();
        bench.network("red", "nat");
        bench.network("blue", "none");
        bench.run("red", 2, "10.1.0.2/24");
        bench.run("blue", 4, "10.1.0.2/24");
        assert!(!answers_once("box2", "192.0.2.1"), "the host itself is not for tenants");
        assert!(!answers_once("box4", "192.0.2.1"));
        assert!(bench.store.read(|tx| tx.uplinks()).unwrap().len() == 1);
    }

    fn a_link_whose_record_cannot_be_written_is_deleted(kernel) {
        let folder = tempfile::tempdir().unwrap();
        run(&format!("mount -t tmpfs -o size=1m tmpfs {}", folder.path().display()));
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        let bench = Bench::on(store, folder);
        bench.network("red", "none");
        let filler = bench.folder.path().join("filler");
        while std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap().write(&[7; 4096]).is_ok() {}
        let ids = json!({ "NetworkID": id("red"), "EndpointID": id("e2"), "Interface": { "Address": "10.1.0.2/24" } });
        let (status, reply) = bench.ask("CreateEndpoint", &ids);
        assert!(status == 500 && reply["Err"].as_str().unwrap().contains("the disk is full"), "{reply}");
        assert!(soon(|| kernel.links(&Namespace::Host).unwrap() == [name("lo")]));
        let rules = || run("ip netns exec ciao-red nft list table bridge ciao");
        assert!(!rules().contains("10.1.0.2"), "{}", rules());
        std::fs::remove_file(&filler).unwrap();
        bench.run("red", 2, "10.1.0.2/24");
        assert!(rules().contains("10.1.0.2"), "{}", rules());
    }

    fn a_published_port_without_a_record_is_free_for_another_tenant_after_a_reconcile(_kernel) {
        let bench = Bench::new();
        bench.network("red", "nat");
        bench.network("blue", "nat");
        bench.run("red", 2, "10.1.0.2/24");
        bench.run("blue", 4, "10.1.0.2/24");
        bench.publish("red", 2, 8080);
        // A crash between the record and the rule.
        let conn = rusqlite::Connection::open(bench.store.path()).unwrap();
        conn.execute("DELETE FROM port_record", []).unwrap();
        let bench = bench.restarted();
        bench.driver.reconcile(Depth::Full);
        assert!(!run("nft list map inet ciao ports4").contains("8080"), "the host");
        assert!(!run("ip netns exec ciao-red nft list map inet ciao ports4").contains("8080"), "the tenant");
        bench.publish("blue", 4, 8080);
    }

    fn published_ports_are_read_from_the_rules_after_the_loss_of_their_records(_kernel) {
        let bench = Bench::new();
        bench.network("red", "nat");
        bench.run("red", 2, "10.1.0.2/24");
        bench.publish("red", 2, 8080);
        let binding = |protocol: u8, at: &str| json!({ "Proto": protocol, "Port": 53, "HostIP": at, "HostPort": 5353 });
        bench.run("red", 3, "10.1.0.3/24");
        let options = json!({ "com.docker.network.portmap": [binding(17, "127.0.0.1"), binding(6, "")] });
        let ids = json!({ "NetworkID": id("red"), "EndpointID": id("e3"), "Options": options });
        bench.ok("ProgramExternalConnectivity", &ids);
        bench.run("red", 5, "10.1.0.5/24");
        let options = json!({ "com.docker.network.portmap": [binding(17, "127.0.0.2")] });
        bench.ok("ProgramExternalConnectivity", &json!({ "NetworkID": id("red"), "EndpointID": id("e5"), "Options": options }));
        let ports = |bench: &Bench| bench.store.read(|tx| tx.ports()).unwrap();
        let rules = || run("nft list table inet ciao") + &run("ip netns exec ciao-red nft list ruleset");
        let (before, listing) = (ports(&bench), rules());
        assert_eq!(before.len(), 4);
        drop(bench);
        let bench = Bench::new();
        let container = |n: u8| json!({ "EndpointID": id(&format!("e{n}")), "IPv4Address": format!("10.1.0.{n}/24"), "publishes": true });
        let known = json!({ "engine": "E", "networks": [id("red")], "details": [{
            "Id": id("red"), "Options": { "tenant": "red", "bridge": "br0", "egress": "nat" },
            "IPAM": { "Config": [{ "Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1" }] },
            "Containers": { "c2": container(2), "c3": container(3), "c5": container(5) },
        }] });
        let rows = bench.driver.reconcile_with(Depth::Full, serde_json::from_value(known).unwrap(), false).unwrap();
        assert!(rows.len() == 4 && rows.iter().all(|row| row.error.is_none()), "{rows:?}");
        assert_eq!(ports(&bench), before);
        assert_eq!(rules(), listing);
    }
}
