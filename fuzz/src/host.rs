// SPDX-License-Identifier: Apache-2.0
//! [`Host`]: both drivers behind their own tables of methods, on a store in memory and a kernel in memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ciao_common::serve::server::ANSWER_WITHIN;
use ciao_common::store::Store;
use ciao_common::types::LinkName;
use ciao_ipam::Ipam;
use ciao_netdriver::Driver;
use ciao_netdriver::kernel::Namespace;
use ciao_netdriver::kernel::fake::consistency::differences;
use ciao_netdriver::kernel::fake::{Fake, FakeLink, State};
use ciao_netdriver::reconcile::Depth;
use serde_json::Value;
use tempfile::TempDir;

use crate::daemons::{Daemons, Socket};
use crate::promises::{Ledger, Records, check_reply};

/// A filesystem in memory, where there is one: the disk is not what is tested.
const MEMORY: &str = "/dev/shm";

/// What is called on.
pub(crate) struct Host {
    /// `None` only while they are started again.
    daemons: Option<Daemons>,
    pub(crate) kernel: Arc<Fake>,
    pub(crate) records: Records,
    pub(crate) ledger: Ledger,
    /// Ids that were answered, in order.
    pub(crate) pools: Vec<String>,
    pub(crate) vnics: Vec<String>,
    /// Something happened behind the daemons' backs that the next reconcile repairs.
    pub(crate) disturbed: bool,
    /// The kernel fails in the next call.
    failing: bool,
    /// It has failed since the last reconcile, and what is deleted in the background may wait for the next one.
    failed: bool,
    folder: TempDir,
}

/// A host to begin with.
pub(crate) struct Template {
    database: Vec<u8>,
    state: State,
    ledger: Ledger,
    pools: Vec<String>,
    vnics: Vec<String>,
}

impl Host {
    /// A host that nobody has used.
    pub(crate) fn empty() -> Self {
        static EMPTY: OnceLock<Template> = OnceLock::new();
        EMPTY.get_or_init(|| Template::of(|_| {})).host()
    }

    fn folder() -> TempDir {
        let memory = Path::new(MEMORY);
        let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        made.expect("a folder for the database")
    }

    fn fresh() -> Self {
        let folder = Self::folder();
        let kernel = Arc::<Fake>::default();
        kernel.change(|state| {
            state.links.insert((Namespace::Host, link("lan0")), FakeLink::Bridge(BTreeSet::new()));
            state.links.insert((Namespace::Host, link("eth0")), FakeLink::Other);
        });
        Self::on(folder, kernel)
    }

    fn on(folder: TempDir, kernel: Arc<Fake>) -> Self {
        let database = folder.path().join("ciao.db");
        let daemons = Some(Daemons::start(&database, &kernel));
        let (pools, vnics) = (Vec::new(), Vec::new());
        let records = Records::open(&database);
        let host = Self {
            daemons,
            kernel,
            records,
            ledger: Ledger::default(),
            pools,
            vnics,
            disturbed: false,
            failing: false,
            failed: false,
            folder,
        };
        host.driver().resume().expect("hold published ports");
        host
    }

    fn daemons(&self) -> &Daemons {
        self.daemons.as_ref().expect("they run")
    }

    /// The driver of networks.
    pub(crate) fn driver(&self) -> &Driver {
        self.daemons().net.driver()
    }

    /// The driver of addresses.
    pub(crate) fn ipam(&self) -> &Ipam {
        self.daemons().ipam.driver()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.daemons().store
    }

    /// Says what is done, to whoever reads a finding.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        static SHOWN: OnceLock<bool> = OnceLock::new();
        if *SHOWN.get_or_init(|| std::env::var_os("CIAO_FUZZ_SHOW").is_some()) {
            eprintln!("{}", what());
        }
    }

    /// Both daemons are killed and start, as `serve` does.
    pub(crate) fn restart(&mut self) {
        self.recover();
        self.daemons = None;
        self.daemons = Some(Daemons::start(&self.folder.path().join("ciao.db"), &self.kernel));
        self.reconcile(Depth::Full);
        self.driver().resume().expect("hold published ports");
    }

    /// Brings records and kernel together. What did not differ needs no repair.
    pub(crate) fn reconcile(&mut self, depth: Depth) {
        self.recover();
        let repairs = self.driver().reconcile(depth);
        assert!(self.disturbed || repairs.is_empty(), "nothing was wrong, but reconcile says {repairs:?}");
        self.ipam().reclaim().expect("reclaim");
        self.failed &= depth == Depth::DryRun;
        self.settle();
        self.disturbed &= depth == Depth::DryRun;
        self.check_at_rest(&format!("after {repairs:?}"));
    }

    /// Lets so many changes of the kernel pass in the next call, and then every one fail.
    pub(crate) fn fail_after(&mut self, changes: usize) {
        self.kernel.fail_after(Some(changes));
        self.failing = true;
    }

    /// The kernel is well again, if it was not.
    fn recover(&mut self) {
        if std::mem::take(&mut self.failing) {
            self.kernel.fail_after(None);
            self.disturbed = true;
            self.failed = true;
        }
    }

    /// A call, with what must be true of every one.
    pub(crate) fn call(&mut self, socket: Socket, method: &str, target: &str, body: &[u8]) -> (u16, Value) {
        let before = self.seen();
        let since = Instant::now();
        let reply = self.daemons().handle(socket, method, target, body);
        let took = since.elapsed();
        let what =
            format!("{method} {target} {}: {}", String::from_utf8_lossy(body), String::from_utf8_lossy(&reply.body));
        self.tell(|| format!("  {what} ({})", reply.status));
        assert!(took < ANSWER_WITHIN, "{what} took {took:?}");
        if self.failing {
            self.recover();
        } else {
            self.settle();
            if reply.status != 200 && reply.status != 201 {
                let after = self.seen();
                assert!(after == before, "{what} is an error that changed\n{before:#?}\nto\n{after:#?}");
            }
        }
        let value = check_reply(socket, &reply, &what);
        self.ledger.note(&self.records, target, body, reply.status, &value);
        self.check_at_rest(&what);
        (reply.status, value)
    }

    /// All that a call could change. After a failure of the kernel's, links may go at any time.
    fn seen(&self) -> (Vec<String>, Option<State>) {
        (self.records.all(), (!self.failed).then(|| self.kernel.state()))
    }

    /// Waits until the links that are deleted in the background are gone, or could not be deleted.
    pub(crate) fn settle(&self) {
        self.driver().wait_for_tasks();
        assert!(self.failed || !self.records.are_deleting(), "links are not deleted");
    }

    /// What must be true between any two calls.
    pub(crate) fn check_at_rest(&self, what: &str) {
        if let Err(error) = self.store().read(|tx| tx.check_addresses()) {
            panic!("{what}: {error:#}");
        }
        if !self.disturbed {
            let differences = differences(self.store(), &self.kernel.state()).expect("read the records");
            assert!(differences.is_empty(), "{what}: {differences:#?}");
        }
    }

    /// What must be true of every host in the end.
    pub(crate) fn leave(mut self) {
        self.recover();
        if self.disturbed {
            self.reconcile(Depth::Full);
        }
        self.records.check_file();
        self.ledger.check(&self.records);
    }
}

impl Template {
    /// What a new host is after `make`.
    pub(crate) fn of(make: impl FnOnce(&mut Host)) -> Self {
        let mut host = Host::fresh();
        make(&mut host);
        host.settle();
        let state = host.kernel.state();
        // The last connection to go puts all into the file.
        host.daemons = None;
        host.records.close();
        let database = fs::read(host.folder.path().join("ciao.db")).expect("read the database");
        Self { database, state, ledger: host.ledger, pools: host.pools, vnics: host.vnics }
    }

    pub(crate) fn host(&self) -> Host {
        let folder = Host::folder();
        fs::write(folder.path().join("ciao.db"), &self.database).expect("write the database");
        let kernel = Arc::<Fake>::default();
        kernel.change(|state| state.clone_from(&self.state));
        let mut host = Host::on(folder, kernel);
        host.records.renew(host.store().now());
        host.ledger.clone_from(&self.ledger);
        host.pools.clone_from(&self.pools);
        host.vnics.clone_from(&self.vnics);
        host
    }
}

pub(crate) fn link(name: &str) -> LinkName {
    name.parse().expect("a link's name")
}
