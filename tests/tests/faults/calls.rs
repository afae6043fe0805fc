// SPDX-License-Identifier: Apache-2.0
//! Each call of both plugins that an engine makes and that changes something, with its request lost, with its reply
//! lost, cut or late, carried out twice, and with the plugin killed in the call or at its reply: after a reconcile
//! nothing is left over, and the next `docker` commands work.
//!
//! Printed with `--nocapture`: a table of what Docker did, what ciao repaired and what was left, a line a case.

use std::thread::scope;
use std::time::Duration;

use ciao_tests::chance::Chance;
use ciao_tests::checker;
use ciao_tests::lab::{Host, LIVE};
use ciao_tests::wired::Wired;

use crate::scene::{Case, Table, Way, check_addresses, seen};

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
fn meet(name: &str, options: &str, way: Way) {
    let wired = Wired::open(Host::builder().name(name)).unwrap();
    let (options, chance) = (options.to_owned(), Chance::new(SEED));
    let mut matrix = Matrix { wired, way, options, chance, table: Table::default() };
    for life in (0..LIVES).cycle().take(LIVES * way.rounds()) {
        for step in &LIFE {
            match step.methods.get(life) {
                Some(method) => matrix.step(step, method),
                None => drop(matrix.sh(step.command)),
            }
            if step.command == STOP {
                matrix.sh("docker rm web").unwrap();
            }
        }
    }
    matrix.table.finish(name);
}

struct Matrix {
    wired: Wired,
    way: Way,
    options: String,
    chance: Chance,
    table: Table,
}

impl Matrix {
    /// One command with one call that meets a fault.
    fn step(&mut self, step: &Step, method: &str) {
        let (proxy, daemon) = self.wired.behind(method);
        proxy.arm(method, self.way.fault(daemon, &mut self.chance));
        let output = scope(|scope| {
            let command = scope.spawn(|| self.wired.host.try_sh(&self.script(step.command)).unwrap());
            assert!(proxy.has_fired(PATIENCE), "`{}` calls no {method}", step.command);
            if self.way.kills() {
                daemon.start_again().unwrap();
            }
            command.join().unwrap()
        });
        let verb = step.command.split(' ').skip(1).take_while(|word| !word.starts_with('-')).collect::<Vec<_>>();
        let docker = format!("{}: {}; saw {}", verb.join(" "), output.code, seen(&proxy.calls(), method));
        let repaired = checker::repair(&self.wired.host).unwrap();
        let differences = checker::differences(&self.wired.host).unwrap();
        let next = self.once_more(step);
        check_addresses(&self.wired.host);
        self.table.add(Case { method, way: self.way, docker, repaired, differences, next });
    }

    /// What the engine took for failed is done again, and works, and leaves nothing either.
    fn once_more(&self, step: &Step) -> Option<Result<(), String>> {
        if self.sh(&format!("{{ {}; }} >/dev/null 2>&1", step.done)).is_ok() {
            return None;
        }
        if let Err(error) = self.sh(&format!("{}; {}", step.undo, step.command)) {
            return Some(Err(format!("{error:#}")));
        }
        let left = checker::differences(&self.wired.host).unwrap();
        Some(if left.is_empty() { Ok(()) } else { Err(left.join("; ")) })
    }

    fn script(&self, script: &str) -> String {
        script.replace("$OPTIONS", &self.options).replace("$LIVE", LIVE)
    }

    fn sh(&self, script: &str) -> anyhow::Result<String> {
        self.wired.host.sh(&self.script(script))
    }
}

/// Of the moments at which a plugin is killed.
const SEED: u64 = 1;

const TENANT: &str = "-o tenant=red --ipam-opt tenant=red";

#[test]
#[ignore = "takes longer: make test-engines"]
fn a_request_lost_on_its_way_leaks_nothing() {
    meet("request", TENANT, Way::RequestLost);
}

#[test]
fn a_reply_lost_after_the_commit_leaks_nothing() {
    meet("reply", TENANT, Way::ReplyLost);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn a_reply_cut_after_the_commit_leaks_nothing() {
    meet("cut", TENANT, Way::ReplyCut);
}

#[test]
fn a_late_reply_leaks_nothing_and_fails_nothing() {
    meet("late", TENANT, Way::ReplyLate);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn a_call_carried_out_twice_leaks_nothing() {
    meet("twice", TENANT, Way::CarriedOutTwice);
}

#[test]
fn a_plugin_killed_in_a_call_leaks_nothing() {
    meet("killed", TENANT, Way::Killed);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn a_plugin_killed_when_it_has_replied_leaks_nothing() {
    meet("replied", TENANT, Way::KilledAtReply);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn networks_without_a_tenant_leak_nothing_either() {
    meet("own", "", Way::ReplyCut);
}

#[test]
#[ignore = "takes longer: make test-engines"]
fn networks_without_a_tenant_leak_nothing_when_a_call_is_carried_out_twice() {
    meet("own-twice", "", Way::CarriedOutTwice);
}
