// SPDX-License-Identifier: Apache-2.0
//! What every test stands on: a driver, a kernel in memory, a store in a folder of its own, and ciao-ipam beside it.
//!
//! Calls go through the plugin's and the control socket's handlers, as bytes, so a test sees what the engine sees.

mod engine;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ciao_common::serve::events::EVENTS;
use ciao_common::serve::lines::Lines;
use ciao_common::serve::plugin::Plugin;
use ciao_common::serve::server::{Handler, Request};
use ciao_common::store::Store;
use ciao_ipam::Ipam;
use ciao_netdriver::control::{self, Control};
use ciao_netdriver::kernel::fake::Fake;
use ciao_netdriver::reconcile::Depth;
use ciao_netdriver::{Config, Driver, Shares};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Bench {
    pub(crate) driver: Arc<Driver>,
    pub(crate) kernel: Arc<Fake>,
    pub(crate) store: Arc<Store>,
    plugin: Plugin<Arc<Driver>>,
    pub(crate) control: Control,
    ipam: Plugin<Ipam>,
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        Self::on(store, Arc::new(Fake::default()), folder)
    }

    /// The daemon started again with other options.
    pub(crate) fn restarted_as(self, config: Config) -> Self {
        let Self { kernel, store, folder, driver, plugin, control, ipam } = self;
        drop((driver, plugin, control, ipam));
        Self::configured(store, kernel, folder, config)
    }

    /// With such shares of what tenants have in common.
    pub(crate) fn with_shares(shares: Shares) -> Self {
        let Self { kernel, store, folder, .. } = Self::new();
        Self::configured(store, kernel, folder, Config { shares, ..Config::default() })
    }

    fn on(store: Arc<Store>, kernel: Arc<Fake>, folder: TempDir) -> Self {
        Self::configured(store, kernel, folder, Config::default())
    }

    fn configured(store: Arc<Store>, kernel: Arc<Fake>, folder: TempDir, config: Config) -> Self {
        let seen: Arc<Fake> = Arc::clone(&kernel);
        let driver = Arc::new(Driver::new(Arc::clone(&store), seen, config).unwrap());
        let ipam = Ipam::new(Arc::clone(&store), ciao_ipam::Config::default()).unwrap();
        Self {
            plugin: ciao_netdriver::docker::plugin(Arc::clone(&driver)),
            control: control::routes(Arc::clone(&driver)),
            ipam: ciao_ipam::routes::plugin(ipam),
            driver,
            kernel,
            store,
            folder,
        }
    }

    /// The daemon killed and started again.
    pub(crate) fn restarted(self) -> Self {
        let Self { kernel, store, folder, driver, plugin, control, ipam } = self;
        drop((driver, plugin, control, ipam));
        Self::on(store, kernel, folder)
    }

    /// The same without any record.
    pub(crate) fn without_database(self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        self.on_database(folder)
    }

    /// The same with the database of another folder.
    pub(crate) fn on_database(self, folder: TempDir) -> Self {
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        Self::on(store, Arc::clone(&self.kernel), folder)
    }

    /// A backup of the database, in a folder of its own.
    pub(crate) fn copy(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("ciao.db");
        let conn = rusqlite::Connection::open(self.store.path()).unwrap();
        conn.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        folder
    }

    /// Both daemons stopped, the host's clock set forward, both started again.
    pub(crate) fn with_clock_ahead_by(self, step: Duration) -> Self {
        let Self { kernel, store, folder, driver, plugin, control, ipam } = self;
        drop((driver, plugin, control, ipam, store));
        let store = Store::open_at(&folder.path().join("ciao.db"), SystemTime::now() + step).unwrap();
        Self::on(Arc::new(store), kernel, folder)
    }

    /// A call of ciao-net's: the reply, or the error's sentence.
    pub(crate) fn call(&self, method: &str, body: &Value) -> Result<Value, String> {
        let (status, reply) = self.raw(method, body.to_string().as_bytes());
        if status == 200 { Ok(reply) } else { Err(reply["Err"].as_str().unwrap().to_owned()) }
    }

    pub(crate) fn raw(&self, method: &str, body: &[u8]) -> (u16, Value) {
        let path = format!("/NetworkDriver.{method}");
        let reply = self.plugin.handle(Request { method: "POST", path: &path, query: "", body });
        (reply.status, serde_json::from_slice(&reply.body).unwrap_or(Value::Null))
    }

    pub(crate) fn ok(&self, method: &str, body: &Value) -> Value {
        self.call(method, body).unwrap()
    }

    /// A call of a launcher's: status and body.
    pub(crate) fn launcher(&self, method: &str, target: &str, body: &[u8]) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let reply = self.control.handle(Request { method, path, query, body });
        (reply.status, serde_json::from_slice(&reply.body).unwrap())
    }

    fn lines(&self, query: &str) -> Lines {
        let reply = self.control.handle(Request { method: "GET", path: EVENTS, query, body: b"" });
        assert_eq!((reply.status, reply.content_type), (200, "application/x-ndjson"));
        reply.lines.unwrap()
    }

    /// The events of a query, all of them.
    pub(crate) fn events(&self, query: &str) -> Vec<Value> {
        let lines = self.lines(query);
        let (mut text, mut position) = (Vec::new(), lines.start);
        while let Some((more, next)) = (lines.read)(position).unwrap() {
            text.extend(more);
            position = next;
        }
        String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Those to come.
    pub(crate) fn follow(&self) -> Lines {
        self.lines("follow=1")
    }

    /// How long the engine and a launcher may wait for an answer to a call.
    pub(crate) fn answered_within(&self, path: &str) -> (Duration, Duration) {
        (self.plugin.answer_within(path), self.control.answer_within(path))
    }

    pub(crate) fn make_vnic(&self, request: &Value) -> (u16, Value) {
        self.launcher("POST", "/v1/vnics", request.to_string().as_bytes())
    }

    /// A VNIC that is made, or was there.
    pub(crate) fn vnic(&self, request: &Value) -> Value {
        let (status, reply) = self.make_vnic(request);
        assert!(status < 300, "{reply}");
        reply
    }

    pub(crate) fn delete_vnic(&self, vnic: &Value, force: bool) -> (u16, Value) {
        let target = format!("/v1/vnics/{}?force={force}", vnic["id"].as_str().unwrap());
        self.launcher("DELETE", &target, b"")
    }

    /// A call of ciao-ipam's.
    pub(crate) fn ipam(&self, method: &str, body: &Value) -> Value {
        self.try_ipam(method, body).unwrap()
    }

    /// The same: the reply, or the error's sentence.
    pub(crate) fn try_ipam(&self, method: &str, body: &Value) -> Result<Value, String> {
        let (path, body) = (format!("/IpamDriver.{method}"), body.to_string());
        let reply = self.ipam.handle(Request { method: "POST", path: &path, query: "", body: body.as_bytes() });
        let value: Value = serde_json::from_slice(&reply.body).unwrap();
        if reply.status == 200 { Ok(value) } else { Err(value["Err"].as_str().unwrap().to_owned()) }
    }

    /// The reconcile of a start.
    pub(crate) fn reconcile(&self) -> Vec<String> {
        self.reconcile_to(Depth::Full)
    }

    pub(crate) fn reconcile_to(&self, depth: Depth) -> Vec<String> {
        let repairs = self.driver.reconcile(depth);
        self.settle();
        repairs.into_iter().map(|repair| format!("{} {}: {}", repair.action, repair.what, repair.why)).collect()
    }

    /// The same: the first thing that could not be done, or all was.
    pub(crate) fn whole_reconcile(&self) -> Result<(), String> {
        let repairs = self.driver.reconcile(Depth::Full);
        repairs.into_iter().find_map(|repair| repair.error).map_or(Ok(()), Err)
    }

    /// Waits until the links that are deleted in the background are gone.
    pub(crate) fn settle(&self) {
        self.driver.wait_for_tasks();
        assert_eq!(self.store.read(|tx| tx.vnics_deleting()).unwrap(), []);
    }

    /// What is recorded, as text.
    pub(crate) fn rows(&self) -> String {
        self.store
            .read(|tx| {
                tx.check_addresses()?;
                let (networks, vnics, going) = (tx.networks()?, tx.vnics(None)?, tx.vnics_deleting()?);
                let (endpoints, uplinks, ports) = (tx.endpoints()?, tx.uplinks()?, tx.ports()?);
                let (pools, leases) = (tx.view("pool", None)?, tx.view("lease", None)?);
                Ok(format!(
                    "{networks:#?}\n{vnics:#?}\n{going:#?}\n{endpoints:#?}\n{uplinks:#?}\n{ports:#?}\n{pools:?}\n{leases:?}"
                ))
            })
            .unwrap()
    }

    /// State and address of the leases: `bound 10.0.0.2`.
    pub(crate) fn leases(&self) -> Vec<String> {
        let leases = self.store.read(|tx| tx.view("lease", None)).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        leases.iter().map(|lease| format!("{} {}", text(&lease["state"]), text(&lease["address"]))).collect()
    }
}
