// SPDX-License-Identifier: Apache-2.0
//! Socket activation: systemd's own program listens and starts a daemon at the first call; daemons that are started
//! again while the sockets stay lose no call. The units are right and closed as far as they can be.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use ciao_tests::lab::{Engine, Host, Process, workspace};
use ciao_tests::proxy::call;
use serde_json::{Value, json};

/// How often both daemons are started again: `CIAO_TEST_RESTARTS`.
fn restarts() -> usize {
    std::env::var("CIAO_TEST_RESTARTS").map_or(5, |number| number.parse().expect("CIAO_TEST_RESTARTS is a number"))
}

const CLIENTS: usize = 8;
/// How long a daemon may take to notify.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps the sockets that it was passed, and starts the daemon again whenever it ends, as a service with
/// `Restart=always`. Each daemon gets LISTEN_PID of its own process.
const UNIT: &str = "while :; do sh -c 'LISTEN_PID=$$ exec \"$@\"' unit \"$@\"; echo \"ended with $?\"; done";

/// The notifications on `NOTIFY_SOCKET`.
struct Notices(UnixDatagram);

impl Notices {
    fn open(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut text = [0; 256];
        let length = self.0.recv(&mut text).expect("the daemon notifies systemd");
        String::from_utf8(text[..length].to_vec()).unwrap().trim().to_owned()
    }
}

/// What a unit starts its daemon with, without the variable of `/etc/default`, and the sockets of its socket unit.
fn unit(name: &str) -> (Vec<String>, Vec<String>) {
    let read = |kind: &str| fs::read_to_string(workspace().join(format!("deploy/{name}.{kind}"))).unwrap();
    let values = |text: &str, key: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(key)).map(str::to_owned).collect()
    };
    let start = values(&read("service"), "ExecStart=@PREFIX@/bin/").remove(0);
    let options = start.split(' ').skip(1).filter(|word| !word.starts_with('$')).map(str::to_owned);
    (options.collect(), values(&read("socket"), "ListenStream="))
}

/// A daemon behind sockets that systemd's program holds.
struct Activated {
    name: &'static str,
    notices: Notices,
    process: Process,
}

impl Activated {
    fn start(host: &Host, name: &'static str) -> Self {
        let (options, sockets) = unit(name);
        let notify = format!("/run/{name}.notify");
        let notices = Notices::open(&host.path(&notify));
        let mut argv = vec!["systemd-socket-activate".to_owned(), format!("--setenv=NOTIFY_SOCKET={notify}")];
        argv.extend(sockets.iter().map(|socket| format!("--listen={socket}")));
        let program = format!("/usr/local/bin/{name}");
        argv.extend(["sh", "-c", UNIT, "unit", &program].map(str::to_owned));
        argv.extend(options);
        let process = host.spawn(&format!("{name}-activated"), &argv).unwrap();
        let since = Instant::now();
        while !sockets.iter().all(|socket| host.path(socket).exists()) {
            assert!(since.elapsed() < PATIENCE, "systemd-socket-activate does not listen: {}", process.log().unwrap());
            sleep(Duration::from_millis(10));
        }
        Self { name, notices, process }
    }

    /// SIGTERM, and what follows until it serves again.
    fn restart(&self, host: &Host) {
        // Alone in the host's process ids.
        host.sh(&format!("kill -TERM $(pidof -s {})", self.name)).unwrap();
        assert_eq!(self.notices.next(), "STOPPING=1", "{}", self.name);
        assert_eq!(self.notices.next(), "READY=1", "{}", self.name);
    }
}

/// What became of calls.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    /// Waits until so many more are answered, or one has failed.
    fn wait_for_more(&self, count: usize) {
        let (since, before) = (Instant::now(), self.answered.load(Ordering::Relaxed));
        while self.answered.load(Ordering::Relaxed) < before + count && self.failures.lock().unwrap().is_empty() {
            if since.elapsed() > PATIENCE {
                self.failures.lock().unwrap().push(format!("no {count} more answers in {PATIENCE:?}"));
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn count(&self, what: &str, done: Result<(), String>) {
        match done {
            Ok(()) => drop(self.answered.fetch_add(1, Ordering::Relaxed)),
            Err(error) => self.failures.lock().unwrap().push(format!("{what}: {error}")),
        }
    }
}

fn ask(socket: &Path, method: &str, body: &Value) -> Result<Value, String> {
    let (status, reply) = call(socket, method, &body.to_string()).map_err(|error| format!("{method}: {error}"))?;
    if status == 200 { Ok(serde_json::from_str(&reply).unwrap()) } else { Err(format!("{method}: {status} {reply}")) }
}

/// An address requested and released, and a call to ciao-net.
fn one_round(host: &Host, pool: &Value) -> Result<(), String> {
    let (ipam, net) = (host.path("/run/ciao/ciao-ipam.sock"), host.path("/run/ciao/ciao-net.sock"));
    let reply = ask(&ipam, "IpamDriver.RequestAddress", &json!({ "PoolID": pool, "Address": "" }))?;
    let address = reply["Address"].as_str().and_then(|cidr| cidr.split('/').next()).map(str::to_owned);
    ask(&ipam, "IpamDriver.ReleaseAddress", &json!({ "PoolID": pool, "Address": address }))?;
    let endpoint = json!({ "NetworkID": "n1", "EndpointID": "e1" });
    ask(&net, "NetworkDriver.DeleteEndpoint", &endpoint).map(drop)
}

#[test]
fn no_call_fails_while_both_daemons_are_started_again_behind_their_sockets() {
    // The machine's own engine: a bare root filesystem has no systemd.
    let host = Host::builder().name("systemd").engine(Engine::Machine).start().unwrap();
    for daemon in [host.ciao_ipam(), host.ciao_net()] {
        assert!(daemon.stop().unwrap().success());
    }
    let ipam = Activated::start(&host, "ciao-ipam");
    let net = Activated::start(&host, "ciao-net");
    // Nothing runs yet: the first call starts each.
    host.docker(&["network", "create", "-d", "ciao-net", "--ipam-driver", "ciao-ipam", "app"]).unwrap();
    for daemon in [&ipam, &net] {
        assert_eq!(daemon.notices.next(), "READY=1");
        let log = daemon.process.log().unwrap();
        assert_eq!(log.matches("(passed by systemd)").count(), 3, "plugin, control, metrics: {log}");
    }
    for (name, metric) in [("ipam", "ciao_pools 1.0"), ("net", "ciao_networks 1.0")] {
        let metrics =
            host.sh(&format!("curl -s --unix-socket /run/ciao/{name}-metrics.sock http://ciao/metrics")).unwrap();
        assert!(metrics.contains(metric), "{metric} is missing: {metrics}");
    }
    let subnet = json!({ "AddressSpace": "local", "Pool": "10.9.0.0/16" });
    let pool = &ask(&host.path("/run/ciao/ciao-ipam.sock"), "IpamDriver.RequestPool", &subnet).unwrap()["PoolID"];
    let (calls, runs, done) = (Tally::default(), Tally::default(), AtomicBool::new(false));
    let work = |tally: &Tally, what: &str, act: &dyn Fn() -> Result<(), String>| {
        while !done.load(Ordering::Acquire) {
            tally.count(what, act());
        }
    };
    scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| work(&calls, "a client", &|| one_round(&host, pool)));
        }
        scope.spawn(|| {
            work(&runs, "docker run", &|| {
                let run = host.docker(&["run", "--rm", "--network", "app", "busybox", "true"]);
                run.map(drop).map_err(|error| format!("{error:#}"))
            });
        });
        for _ in 0..restarts() {
            calls.wait_for_more(CLIENTS);
            runs.wait_for_more(1);
            ipam.restart(&host);
            net.restart(&host);
        }
        calls.wait_for_more(CLIENTS);
        runs.wait_for_more(1);
        done.store(true, Ordering::Release);
    });
    let counts = [&calls, &runs].map(|tally| tally.answered.load(Ordering::Relaxed));
    println!("{} restarts of each: {} rounds of calls, {} containers", restarts(), counts[0], counts[1]);
    for tally in [calls, runs] {
        let failures = tally.failures.into_inner().unwrap();
        assert!(failures.is_empty(), "{} failed: {:#?}", failures.len(), &failures[..failures.len().min(5)]);
    }
    assert!(counts[0] > CLIENTS && counts[1] > 0, "the restarts met calls: {counts:?}");
    let codes: BTreeSet<_> = [&ipam, &net].iter().flat_map(|daemon| ended(&daemon.process.log().unwrap())).collect();
    assert_eq!(codes, BTreeSet::from(["ended with 0".to_owned()]));
}

fn ended(log: &str) -> Vec<String> {
    log.lines().filter(|line| line.starts_with("ended with")).map(str::to_owned).collect()
}

/// The most that `systemd-analyze security` may find open, in tenths, of a unit.
const EXPOSURE: [(&str, u32); 2] = [("ciao-ipam", 15), ("ciao-net", 48)];

#[test]
fn the_units_are_right_and_closed() {
    let host = Host::builder().name("units").engine(Engine::Machine).start().unwrap();
    fs::create_dir(host.path("/run/units")).unwrap();
    for (name, _) in EXPOSURE {
        let deploy = workspace().join("deploy");
        let service = fs::read_to_string(deploy.join(format!("{name}.service"))).unwrap();
        fs::write(host.path(format!("/run/units/{name}.service")), service.replace("@PREFIX@", "/usr/local")).unwrap();
        fs::copy(deploy.join(format!("{name}.socket")), host.path(format!("/run/units/{name}.socket"))).unwrap();
    }
    // A minimal machine has no man pages. It may also complain of units of the machine.
    let printed = host.try_sh("cd /run/units && systemd-analyze verify --man=no ./*.service ./*.socket 2>&1").unwrap();
    assert!(!format!("{printed:?}").contains("ciao-"), "{printed:?}");
    for (name, most) in EXPOSURE {
        let offline = "systemd-analyze security --no-pager --offline=true";
        let table = host.sh(&format!("cd /run/units && {offline} --threshold={most} ./{name}.service")).unwrap();
        println!("{}", table.lines().last().unwrap_or_default());
    }
}
