// SPDX-License-Identifier: Apache-2.0
//! [`Host`], what a recording is played to: both drivers' handlers, on one store in a folder of its own and on a kernel
//! in memory, which moves links as an engine does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ciao_common::serve::plugin::Plugin;
use ciao_common::serve::server::{Handler, Request};
use ciao_common::store::{Scope, Store};
use ciao_common::types::LinkName;
use ciao_ipam::Ipam;
use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::{Fake, FakeLink, State};
use ciao_netdriver::reconcile::Depth;
use ciao_netdriver::{Config, Driver};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// How long the deletion of links in the background may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Facts of the host, which stay.
const FACTS: [&str; 3] = ["setting", "endpoint_event", "lease_event"];

pub(crate) struct Host {
    /// `None` only while they are started again.
    daemons: Option<Daemons>,
    kernel: Arc<Fake>,
    scope: Scope,
    folder: TempDir,
}

struct Daemons {
    net: Plugin<Arc<Driver>>,
    ipam: Plugin<Ipam>,
    store: Arc<Store>,
}

impl Host {
    pub(crate) fn new(scope: Scope) -> Self {
        let mut host = Self { daemons: None, kernel: Arc::default(), scope, folder: tempfile::tempdir().unwrap() };
        host.restart();
        host
    }

    /// Both daemons end, if they run, and start, as `serve` does.
    pub(crate) fn restart(&mut self) {
        self.daemons = None;
        let store = Arc::new(Store::open(&self.database()).unwrap());
        let kernel: Arc<Fake> = Arc::clone(&self.kernel);
        let config = Config { scope: self.scope, ..Config::default() };
        let driver = Driver::new(Arc::clone(&store), kernel, config).unwrap();
        let ipam = Ipam::new(Arc::clone(&store), ciao_ipam::Config::default()).unwrap();
        let net = ciao_netdriver::docker::plugin(Arc::new(driver));
        self.daemons = Some(Daemons { net, ipam: ciao_ipam::routes::plugin(ipam), store });
        self.reconcile(Depth::Full);
        self.daemons().net.driver().resume().unwrap();
    }

    /// What each daemon does at its start and on a timer. The recorded calls follow each other faster than anything is
    /// given up.
    pub(crate) fn reconcile(&self, depth: Depth) {
        let repairs = self.daemons().net.driver().reconcile(depth);
        assert!(repairs.is_empty(), "records and kernel agree all the time, but {repairs:?}");
        assert_eq!(self.daemons().ipam.driver().reclaim().unwrap(), 0);
    }

    fn daemons(&self) -> &Daemons {
        self.daemons.as_ref().expect("they run")
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("ciao.db")
    }

    fn handler(&self, is_net: bool) -> &dyn Handler {
        let daemons = self.daemons();
        if is_net { &daemons.net } else { &daemons.ipam }
    }

    /// A call, as the engine makes it; the reply must have status 200. Null is an empty body.
    pub(crate) fn call(&self, method: &str, request: &Value) -> Value {
        let body = if request.is_null() { String::new() } else { request.to_string() };
        let handler = self.handler(method.starts_with("NetworkDriver."));
        let path = format!("/{method}");
        let reply = handler.handle(Request { method: "POST", path: &path, query: "", body: body.as_bytes() });
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, 200, "{method} {body} is answered with {text}");
        self.daemons().store.read(|tx| tx.check_addresses()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// `Plugin.Activate` reaches each of the drivers.
    pub(crate) fn activate(&self, recorded: &Value) -> Value {
        let handler = self.handler(recorded["Implements"][0] == "NetworkDriver");
        let reply = handler.handle(Request { method: "POST", path: "/Plugin.Activate", query: "", body: b"" });
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// The paths of both drivers.
    pub(crate) fn paths(&self) -> Vec<&'static str> {
        [self.daemons().net.paths(), self.daemons().ipam.paths()].concat()
    }

    /// After `Join` the engine moves the link into the container's sandbox.
    pub(crate) fn enter(&self, link: &str, endpoint: &str) {
        let link: LinkName = link.parse().unwrap();
        let there = self.kernel.state().links.contains_key(&(Namespace::Host, link.clone()));
        assert!(there, "the engine looks for link {link} in vain");
        self.kernel.move_link(&link, &Namespace::Host, &sandbox(endpoint));
    }

    /// After `Leave` it gives the link back.
    pub(crate) fn leave(&self, link: &str, endpoint: &str) {
        self.kernel.move_link(&link.parse().unwrap(), &sandbox(endpoint), &Namespace::Host);
    }

    /// dockerd is killed, and so are the containers: links in sandboxes vanish, and their peers.
    pub(crate) fn kill_containers(&self) {
        self.kernel.change(|state| {
            let inside = |namespace: &Namespace| namespace.name().is_some_and(|name| name.starts_with(SANDBOX));
            let dead: Vec<_> =
                state.links.keys().filter(|(place, _)| inside(place)).map(|(_, link)| link.clone()).collect();
            assert!(!dead.is_empty(), "containers run when dockerd is killed");
            state.links.retain(|(place, _), link| {
                !inside(place) && !matches!(link, FakeLink::HostEnd(_, peer) if dead.contains(peer))
            });
        });
    }

    /// Waits until no row but the host's facts, no link, no namespace and no rule is left.
    pub(crate) fn assert_nothing_left(&self, but: &[&str]) {
        let since = Instant::now();
        let left = || (self.rows(but), self.kernel.state());
        while left() != (Vec::new(), State::default()) && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(left(), (Vec::new(), State::default()));
    }

    /// The tables that have rows, whatever tables there are, and how many.
    fn rows(&self, but: &[&str]) -> Vec<(String, i64)> {
        let database = Connection::open(self.database()).unwrap();
        let mut tables = database
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            .unwrap();
        let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(tables.iter().any(|table| table == "pool_record"), "{tables:?}");
        let count = |table: &String| database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
        let counts = tables.iter().filter(|table| !FACTS.contains(&table.as_str()) && !but.contains(&table.as_str()));
        counts.map(|table| (table.clone(), count(table).unwrap())).filter(|(_, count)| *count > 0).collect()
    }
}

const SANDBOX: &str = "sandbox-";

fn sandbox(endpoint: &str) -> Namespace {
    Namespace::Named(format!("{SANDBOX}{endpoint}"))
}
