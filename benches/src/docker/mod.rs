// SPDX-License-Identifier: Apache-2.0
//! `bench docker`: what a user of Docker waits for: a container made, started and removed, a network made and removed,
//! through Docker's API, on our drivers and on Docker's own.
//!
//! Every round does every kind once, in an order that turns by one each round, so that no kind always follows the same
//! other one.

mod engine;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ciao_common::cli::client::Client;
use ciao_tests::lab::Host;
use serde_json::{Value, json};

pub use engine::{Engine, network};

use crate::host;
use crate::numbers::{Latencies, digits, median_duration, time};
use crate::report::{Bar, Goal, Line, Section, Table};

const USER: &str = "user-defined bridge, --ip, --mac-address";
const AUTOMATIC: &str = "ciao-net, --ip, --mac-address";
const PREPARED: &str = "ciao-net, a launcher's VNIC, --ip, --mac-address";
const TENANT: &str = "bench";
const SUBNET: &str = "10.77.0.0/16";

const TEXT: &str = "One call after the other to Docker's API, over its socket, in one host. `busybox sleep` is the container; \
it is removed by force. Times are medians; *of a user-defined bridge* is the sum's ratio to it.";

/// How a container is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Default,
    User,
    Overlay,
    Automatic,
    Prepared,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::None, "--net=none"),
    (Kind::Default, "default bridge"),
    (Kind::User, USER),
    (Kind::Overlay, "overlay of a swarm of one, --ip, --mac-address"),
    (Kind::Automatic, AUTOMATIC),
    (Kind::Prepared, PREPARED),
];

/// A network's tenant, and what to call that.
const NETWORKS: [(&str, Option<&str>); 3] = [
    ("user-defined bridge", None),
    ("ciao-net, the tenant's second network", Some(TENANT)),
    ("ciao-net, the tenant's first network", Some("fresh")),
];

/// How long the steps took in each round.
type Steps<const N: usize> = Vec<[Duration; N]>;

/// Measures in a new host.
///
/// # Errors
/// No host; a call fails.
pub fn run(rounds: usize) -> Result<Section> {
    let host = host::with_docker("docker")?;
    let setting = Setting::prepare(&host)?;
    let mut containers: [Steps<3>; KINDS.len()] = Default::default();
    let mut networks: [Steps<2>; NETWORKS.len()] = Default::default();
    // The first use of a driver is Docker's handshake with it.
    for (kind, _) in KINDS {
        setting.container(kind, 0)?;
    }
    for round in 1..=rounds {
        for turn in 0..KINDS.len() {
            let index = (turn + round) % KINDS.len();
            let (kind, name) = KINDS[index];
            containers[index].push(setting.container(kind, round).context(name)?);
        }
        for turn in 0..NETWORKS.len() {
            let index = (turn + round) % NETWORKS.len();
            let (name, tenant) = NETWORKS[index];
            networks[index].push(setting.network(tenant).context(name)?);
        }
    }
    Ok(section(rounds, &containers, &networks))
}

fn section(rounds: usize, containers: &[Steps<3>], networks: &[Steps<2>]) -> Section {
    let mut section =
        Section { title: "Docker".into(), text: format!("{TEXT} {rounds} rounds."), ..Section::default() };
    let user =
        KINDS.iter().position(|(kind, _)| *kind == Kind::User).map_or(Duration::ZERO, |at| total(&containers[at]));
    let none = total(&containers[Kind::None as usize]);
    let mut table = Table::new(["container on", "create", "start", "rm -f", "sum", "of a user-defined bridge"]);
    for ((kind, name), steps) in KINDS.iter().zip(containers) {
        let ratio = ratio(total(steps), user);
        let cells = medians(steps).into_iter().chain([total(steps)]).map(time);
        table.row([(*name).to_owned()].into_iter().chain(cells).chain([digits(ratio)]));
        section.lines.push(line("container, run and rm -f", name, steps));
        if matches!(kind, Kind::Automatic | Kind::Prepared) {
            let what = format!("run and remove on {name}");
            let goal = Goal::at_most(format!("{what}, of a user-defined bridge"), 0.9, ratio, " ×");
            let [whole, ours, bridge] = [none, total(steps).saturating_sub(none), user.saturating_sub(none)].map(time);
            section.goals.push(goal.rest(format!(
                "{whole} are Docker's and the container's without a network (--net=none); ours adds {ours}, the bridge {bridge}"
            )));
            section.bars.push(Bar { what, baseline: "user-defined bridge", ratio });
        }
    }
    section.tables.push(table);
    let bridge = total(&networks[0]);
    let mut table = Table::new(["network on", "create", "rm", "sum", "of a user-defined bridge"]);
    for ((name, tenant), steps) in NETWORKS.iter().zip(networks) {
        let ratio = ratio(total(steps), bridge);
        let cells = medians(steps).into_iter().chain([total(steps)]).map(time);
        table.row([(*name).to_owned()].into_iter().chain(cells).chain([digits(ratio)]));
        section.lines.push(line("network, create and rm", name, steps));
        if tenant.is_some() {
            let what = format!("network create and rm, {name}");
            section.goals.push(Goal::at_most(format!("{what}, of a user-defined bridge"), 0.5, ratio, " ×"));
            section.bars.push(Bar { what, baseline: "user-defined bridge", ratio });
        }
    }
    section.tables.push(table);
    section
}

fn medians<const N: usize>(steps: &Steps<N>) -> [Duration; N] {
    std::array::from_fn(|step| median_duration(steps.iter().map(|times| times[step])))
}

fn total<const N: usize>(steps: &Steps<N>) -> Duration {
    median_duration(steps.iter().map(|times| times.iter().sum()))
}

/// All steps of a round together.
fn line<const N: usize>(what: &str, by: &str, steps: &Steps<N>) -> Line {
    let mut rounds = Latencies::default();
    steps.iter().for_each(|times| rounds.add(times.iter().sum()));
    let [p50, p99] = [50, 99].map(|percent| rounds.percentile(percent));
    Line { what: what.to_owned(), by: by.to_owned(), p50, p99, cpu: None }
}

fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64().max(1e-9)
}

/// The networks that containers are made on.
struct Setting {
    engine: Engine,
    control: Client,
}

impl Setting {
    fn prepare(host: &Host) -> Result<Self> {
        let engine = Engine::of(host)?;
        engine.create_network(&network("theirs", "10.78.0.0/16", None))?;
        engine.create_network(&network("ours", SUBNET, Some(TENANT)))?;
        host.sh("docker swarm init --advertise-addr 127.0.0.1 && docker network create -d overlay --attachable --subnet 10.80.0.0/16 overlay")?;
        let control = Client::new("ciao-net", host.path("/run/ciao/control.sock"))?;
        Ok(Self { engine, control })
    }

    /// Makes, starts and removes one.
    fn container(&self, kind: Kind, round: usize) -> Result<[Duration; 3]> {
        let vnic = if kind == Kind::Prepared { Some(self.vnic(round)?) } else { None };
        let body = body(kind, round, vnic.as_deref());
        let begun = Instant::now();
        let id = self.engine.create_container(&body)?;
        let created = Instant::now();
        self.engine.start_container(&id)?;
        let started = Instant::now();
        self.engine.remove_container(&id)?;
        let removed = Instant::now();
        if let Some(vnic) = vnic {
            self.control.delete(&format!("/v1/vnics/{vnic}"))?.success().context("delete a VNIC")?;
        }
        Ok([created - begun, started - created, removed - started])
    }

    /// The launcher's part, which is over before Docker is told of the container.
    fn vnic(&self, round: usize) -> Result<String> {
        let wanted = json!({"tenant": TENANT, "instance": format!("bench-{round}"), "subnet": SUBNET,
            "address": address("10.77", Kind::Prepared, round), "mac": mac(Kind::Prepared, round)});
        let made = self.control.post("/v1/vnics", &wanted)?.success().context("make a VNIC")?;
        Ok(made["id"].as_str().context("the VNIC has no id")?.to_owned())
    }

    /// Makes and removes one.
    fn network(&self, tenant: Option<&str>) -> Result<[Duration; 2]> {
        let body = network("measured", "10.79.0.0/16", tenant);
        let begun = Instant::now();
        let id = self.engine.create_network(&body)?;
        let created = Instant::now();
        self.engine.remove_network(&id)?;
        Ok([created - begun, created.elapsed()])
    }
}

fn body(kind: Kind, round: usize, vnic: Option<&str>) -> Value {
    let mut body = json!({"Image": "busybox", "Cmd": ["sleep", "600"]});
    let (mode, prefix) = match kind {
        Kind::None => ("none", None),
        Kind::Default => ("default", None),
        Kind::User => ("theirs", Some("10.78")),
        Kind::Overlay => ("overlay", Some("10.80")),
        Kind::Automatic | Kind::Prepared => ("ours", Some("10.77")),
    };
    body["HostConfig"] = json!({"NetworkMode": mode});
    if let Some(prefix) = prefix {
        let mut endpoint = json!({"IPAMConfig": {"IPv4Address": address(prefix, kind, round)}});
        if let Some(vnic) = vnic {
            endpoint["DriverOpts"] = json!({"vnic": vnic});
        }
        body["MacAddress"] = json!(mac(kind, round));
        body["NetworkingConfig"] = json!({"EndpointsConfig": {mode: endpoint}});
    }
    body
}

fn address(prefix: &str, kind: Kind, round: usize) -> String {
    format!("{prefix}.{}.{}", kind as usize + 1, round % 200 + 2)
}

fn mac(kind: Kind, round: usize) -> String {
    format!("02:00:4d:00:{:02x}:{:02x}", kind as usize, round % 256)
}
