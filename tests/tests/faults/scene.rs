//! What the faults share: a host whose plugins are reached through a proxy, and what is true of it at rest.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ciao_common::store::Store;
use ciao_tests::checker;
use ciao_tests::lab::{Daemon, Host};
use ciao_tests::proxy::Proxy;

/// What containers run: it ends at SIGTERM, so that `docker stop` need not wait.
pub(crate) const LIVE: &str = "busybox sh -c 'trap exit TERM; sleep 600 & wait'";

/// How long a killed process may take to be dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// A host with a proxy before each plugin.
pub(crate) struct Wired {
    // In the order of dropping: the host's dockerd is gone before its wires.
    pub(crate) host: Host,
    net: Proxy,
    ipam: Proxy,
}

impl Wired {
    pub(crate) fn open(name: &str) -> Self {
        let host = Host::builder().name(name).start().unwrap();
        fs::create_dir(host.path("/run/wire")).unwrap();
        // dockerd reads a spec file when the plugin is first used.
        let wire = |plugin: &str| {
            let spec = format!("unix:///run/wire/{plugin}.sock\n");
            fs::write(host.path(format!("/etc/docker/plugins/{plugin}.spec")), spec).unwrap();
            let socket = |folder: &str| host.path(format!("/run/{folder}/{plugin}.sock"));
            Proxy::open(&socket("wire"), &socket("ciao")).unwrap()
        };
        let (net, ipam) = (wire("ciao-net"), wire("ciao-ipam"));
        Self { host, net, ipam }
    }

    /// The wire that a method's calls take, and the daemon behind it.
    pub(crate) fn behind(&self, method: &str) -> (&Proxy, &Daemon) {
        if method.starts_with("IpamDriver.") {
            (&self.ipam, self.host.ciao_ipam())
        } else {
            (&self.net, self.host.ciao_net())
        }
    }
}

/// Starts a daemon again that somebody killed a moment ago.
pub(crate) fn start_again(daemon: &Daemon) {
    let since = Instant::now();
    while daemon.is_running() {
        assert!(since.elapsed() < PATIENCE, "it was killed and runs");
        sleep(Duration::from_millis(1));
    }
    daemon.start().unwrap();
}

/// What a fault left is repaired, to the last row.
pub(crate) fn assert_repaired(host: &Host, what: &str) {
    let said = checker::repair(host).unwrap();
    let differences = checker::differences(host).unwrap();
    assert!(differences.is_empty(), "{what}: {differences:#?}\nreconcile said:\n{said}");
    check_addresses(host);
}

/// ciao's own check of its ranges of addresses, on a copy: SQLite reads a path through `/proc` as one of this machine.
pub(crate) fn check_addresses(host: &Host) {
    host.sh("sqlite3 /var/lib/ciao/ciao.db '.timeout 5000' '.backup /run/copy.db'").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("ciao.db");
    fs::copy(host.path("/run/copy.db"), &copy).unwrap();
    Store::open_reading(&copy).unwrap().read(|tx| tx.check_addresses()).unwrap();
}
