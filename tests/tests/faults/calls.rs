//! Each call of both plugins that changes something, with its request lost, with its reply lost or cut after it was
//! carried out, and with the plugin killed meanwhile: after a reconcile nothing is left over, and the next `docker`
//! commands work.
//!
//! Printed with `--nocapture`: what the engine did and what ciao repaired, a line a case.

use std::fmt::Write;
use std::thread::scope;
use std::time::{Duration, Instant};

use ciao_tests::checker;
use ciao_tests::lab::Daemon;
use ciao_tests::proxy::Fault;

use crate::scene::{LIVE, Wired, check_addresses, start_again};

/// How long a command may take to come to its call.
const PATIENCE: Duration = Duration::from_secs(20);

const CREATE: &str = "docker network create -d ciao-net --ipam-driver ciao-ipam --subnet 10.7.0.0/24 $OPTIONS app";
const RUN: &str = "docker run -d --name web -p 8080:80 --network app $LIVE";
const STOP: &str = "docker stop web";
const REMOVE: &str = "docker network rm app";

/// A network's and a container's life: the command, what it is to bring about, what puts an end to a half success, and
/// the methods that it calls, of which each life has another one fail.
const LIFE: [Step; 4] = [
    Step {
        command: CREATE,
        done: "docker network inspect app",
        undo: "true",
        methods: &["IpamDriver.RequestPool", "IpamDriver.RequestAddress", "NetworkDriver.CreateNetwork"],
    },
    Step {
        command: RUN,
        done: "docker ps | grep -w web",
        undo: "docker rm -f web",
        methods: &[
            "IpamDriver.RequestAddress",
            "NetworkDriver.CreateEndpoint",
            "NetworkDriver.Join",
            "NetworkDriver.ProgramExternalConnectivity",
        ],
    },
    Step {
        command: STOP,
        done: "! docker ps | grep -w web",
        undo: "true",
        methods: &[
            "NetworkDriver.RevokeExternalConnectivity",
            "NetworkDriver.Leave",
            "NetworkDriver.DeleteEndpoint",
            "IpamDriver.ReleaseAddress",
        ],
    },
    Step {
        command: REMOVE,
        done: "! docker network inspect app",
        undo: "docker rm -f web",
        methods: &["IpamDriver.ReleaseAddress", "IpamDriver.ReleasePool", "NetworkDriver.DeleteNetwork"],
    },
];

/// How many lives there are: as many as a command has methods.
const LIVES: usize = 4;

struct Step {
    command: &'static str,
    done: &'static str,
    undo: &'static str,
    methods: &'static [&'static str],
}

/// Runs every case with a fault on networks with these options, and says of all of them what remained before it fails.
fn meet(name: &str, options: &str, fault: impl Fn(&Daemon) -> Fault) {
    let mut matrix = Matrix { wired: Wired::open(name), options: options.to_owned(), report: String::new(), failed: 0 };
    let since = Instant::now();
    for life in 0..LIVES {
        for step in &LIFE {
            match step.methods.get(life) {
                Some(method) => matrix.step(step, method, &fault),
                None => drop(matrix.sh(step.command)),
            }
            if step.command == STOP {
                matrix.sh("docker rm web").unwrap();
            }
        }
    }
    println!("{name} in {:?}:\n{}", since.elapsed(), matrix.report);
    assert_eq!(matrix.failed, 0, "{}", matrix.report);
}

struct Matrix {
    wired: Wired,
    options: String,
    report: String,
    failed: usize,
}

impl Matrix {
    /// One command with one call that meets a fault.
    fn step(&mut self, step: &Step, method: &str, fault: impl Fn(&Daemon) -> Fault) {
        let (proxy, daemon) = self.wired.behind(method);
        let fault = fault(daemon);
        proxy.arm(method, fault);
        let output = scope(|scope| {
            let command = scope.spawn(|| self.wired.host.try_sh(&self.script(step.command)).unwrap());
            assert!(proxy.has_fired(PATIENCE), "`{}` calls no {method}", step.command);
            if matches!(fault, Fault::Kill { .. }) {
                start_again(daemon);
            }
            command.join().unwrap()
        });
        let calls: Vec<_> = proxy.calls().iter().map(|call| format!("{}={:?}", call.method, call.status)).collect();
        let mut repaired = checker::repair(&self.wired.host).unwrap();
        let mut left = checker::differences(&self.wired.host).unwrap();
        // What the engine took for failed is done again, and works.
        if self.sh(&format!("{{ {}; }} >/dev/null 2>&1", step.done)).is_err() {
            if let Err(error) = self.sh(&format!("{}; {}", step.undo, step.command)) {
                left.push(format!("the command fails once more: {error:#}"));
            }
            repaired += "; done again";
            left.extend(checker::differences(&self.wired.host).unwrap());
        }
        check_addresses(&self.wired.host);
        self.failed += usize::from(!left.is_empty());
        let verb = step.command.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let said = output.stderr.lines().last().unwrap_or_default();
        let count = left.len();
        let repaired = repaired.replace('\n', "; ");
        writeln!(
            self.report,
            "{method} by `{verb}`: {count} differences; docker ended with {} ({said}); {calls:?}; repaired: {repaired}; left: {left:#?}",
            output.code
        )
        .unwrap();
    }

    fn script(&self, script: &str) -> String {
        script.replace("$OPTIONS", &self.options).replace("$LIVE", LIVE)
    }

    fn sh(&self, script: &str) -> anyhow::Result<String> {
        self.wired.host.sh(&self.script(script))
    }
}

const TENANT: &str = "-o tenant=red --ipam-opt tenant=red";

#[test]
fn a_request_lost_on_its_way_leaks_nothing() {
    meet("request", TENANT, |_| Fault::LoseRequest);
}

#[test]
fn a_reply_lost_after_the_commit_leaks_nothing() {
    meet("reply", TENANT, |_| Fault::LoseReply);
}

#[test]
fn a_reply_cut_after_the_commit_leaks_nothing() {
    meet("cut", TENANT, |_| Fault::CutReply);
}

#[test]
fn a_plugin_killed_in_a_call_leaks_nothing() {
    meet("killed", TENANT, |daemon| Fault::Kill {
        pid: daemon.pid().unwrap().try_into().unwrap(),
        after: Duration::from_millis(3),
    });
}

#[test]
fn networks_without_a_tenant_leak_nothing_either() {
    meet("own", "", |_| Fault::CutReply);
}
