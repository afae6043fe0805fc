// SPDX-License-Identifier: Apache-2.0
//! The daemons under load: calls a second, latency, processor time a call, and memory, beside what the disk and the
//! kernel take alone.
//!
//! Each round measures every case and every floor once, one after the other, so that a noisy minute of the machine
//! meets them all; what is reported is the median of the rounds.

mod cases;
mod links;
mod memory;

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::floor::sqlite::Commits;
use crate::host;
use crate::load::{Limit, Load};
use crate::numbers::{Latencies, bytes, digits, median, median_duration, time};
use crate::peers::{self, Peer};
use crate::process::Watch;
use crate::report::{Bar, Goal, Line, Section, Table};
use cases::{Case, Pair, Setting};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How often each case.
    pub rounds: usize,
    /// How long each time.
    pub time: Duration,
}

impl Default for Size {
    fn default() -> Self {
        Self { rounds: 5, time: Duration::from_millis(700) }
    }
}

/// One case in one round, or the median of its rounds.
struct Sample {
    rate: f64,
    p50: Duration,
    p99: Duration,
    cpu: Duration,
    memory: u64,
}

/// Measures all of it in a new host, or `only` the cases with that word in their name.
///
/// # Errors
/// No host; a call fails.
pub fn run(size: Size, only: Option<&str>) -> Result<Section> {
    let host = host::without_docker("service")?;
    let idle = memory::of_both(&host)?;
    let parts = memory::parts(&host)?;
    let mut settings = vec![Setting::prepare(Pair::ours(&host)?, 7)?];
    if only.is_some() {
        eprintln!("bench: ciao-net is process {}, ciao-ipam {}", host.ciao_net().pid()?, host.ciao_ipam().pid()?);
    }
    let folder = host::folder()?;
    let mut commits = Commits::open(folder.path())?;
    let mut text = TEXT.to_owned();
    let mut peers = Vec::new();
    match peers::build() {
        Ok(program) => {
            for (number, by) in [(8, cases::IN_MEMORY), (9, cases::DURABLE)] {
                let peer = Peer::start(&host, &program, by == cases::DURABLE)?;
                settings.push(Setting::prepare(Pair::peers(&peer, by), number)?);
                peers.push(peer);
            }
        }
        Err(error) => text += &format!(" The peers in Go were not built and are not measured: {error:#}."),
    }
    let mut cases: Vec<_> = settings.iter().flat_map(Setting::cases).collect();
    cases.retain(|case| only.is_none_or(|word| case.what.contains(word)));
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    let mut floor = Vec::new();
    for _ in 0..size.rounds {
        settings.iter().try_for_each(Setting::create_endpoints)?;
        floor.push(commit(&mut commits, size.time)?);
        for (case, samples) in cases.iter().zip(&mut samples) {
            samples.push(measure(case, size.time).with_context(|| format!("{}, {}", case.what, case.daemon.by))?);
        }
        settings.iter().try_for_each(Setting::delete_endpoints)?;
    }
    let floor = median_of(&floor);
    let results: Vec<_> = samples.iter().map(|samples| median_of(samples)).collect();
    let mut section = Section { title: "Service".into(), text, ..Section::default() };
    section.tables.push(table(&floor, cases.iter().zip(&results)));
    let of = |by: &str, what: &str, clients: usize| {
        cases.iter().zip(&results).find(|(case, _)| case.is(by, what, clients)).map(|(_, result)| result)
    };
    goals(&floor, of, &mut section);
    lines(&floor, of, &mut section);
    if only.is_none() {
        let empty = of(cases::OURS, cases::EMPTY, 1).map_or(Duration::ZERO, |empty| empty.p50);
        links::measure(&host, &settings[0], size, [floor.p50, empty], &mut section)?;
        memory::goals(&idle, &parts, &memory::of_both(&host)?, &mut section);
    }
    Ok(section)
}

fn table<'a>(floor: &Sample, results: impl Iterator<Item = (&'a Case, &'a Sample)>) -> Table {
    let mut table = Table::new(["what", "by", "clients", "connections", "calls/s", "p50", "p99", "CPU a call", "RSS"]);
    let speed = |sample: &Sample| [digits(sample.rate), time(sample.p50), time(sample.p99)];
    let name = [COMMIT, "", "1", ""].map(str::to_owned);
    table.row(name.into_iter().chain(speed(floor)).chain([time(floor.cpu), String::new()]));
    for (case, sample) in results {
        let name = [case.what, case.daemon.by, &case.clients.to_string(), case.connections_word()].map(str::to_owned);
        table.row(name.into_iter().chain(speed(sample)).chain([time(sample.cpu), bytes(sample.memory)]));
    }
    table
}

/// Ours beside those of the peers and the floor, where clients keep their connections.
fn lines<'a>(floor: &Sample, of: impl Fn(&str, &str, usize) -> Option<&'a Sample>, section: &mut Section) {
    let mut line = |what: String, by: &str, sample: &Sample| {
        let Sample { p50, p99, cpu, .. } = *sample;
        section.lines.push(Line { what, by: by.to_owned(), p50, p99, cpu: Some(cpu) });
    };
    for what in [cases::LEASE, cases::JOIN, cases::ENDPOINT] {
        for clients in [1, cases::MANY] {
            for by in [cases::OURS, cases::IN_MEMORY, cases::DURABLE] {
                if let Some(sample) = of(by, what, clients) {
                    line(format!("{what}, {clients} clients"), by, sample);
                }
            }
            if what == cases::LEASE && clients == 1 {
                line(format!("{what}, {clients} clients"), COMMIT, floor);
            }
        }
    }
}

fn goals<'a>(floor: &Sample, of: impl Fn(&str, &str, usize) -> Option<&'a Sample>, section: &mut Section) {
    let ours = |what, clients| of(cases::OURS, what, clients);
    if let (Some(lease), Some(empty)) = (ours(cases::LEASE, 1), ours(cases::EMPTY, 1)) {
        let both = 1.0 / (1.0 / floor.rate + 1.0 / empty.rate);
        let what = "Request+ReleaseAddress, 1 client, of a raw commit and an empty call together";
        let rest = format!(
            "of {} a call at the median, a raw commit takes {} and an empty call {}; the rest are its statements, a page of the log more, \
             and the writer's thread, which is woken and wakes: {} of processor time a call in all, an empty one {}",
            time(lease.p50),
            time(floor.p50),
            time(empty.p50),
            time(lease.cpu),
            time(empty.cpu)
        );
        section.goals.push(Goal::at_least(what, 0.95, lease.rate / both, " ×").rest(rest));
    }
    if let Some(lease) = ours(cases::LEASE, cases::MANY) {
        let what = "Request+ReleaseAddress, 16 clients";
        let empty = ours(cases::EMPTY, cases::MANY).map_or_else(String::new, |empty| {
            format!(
                ": {} a call, of which HTTP, the same as for an empty call, is {}, and the rest statements and commits",
                time(lease.cpu),
                time(empty.cpu)
            )
        });
        let rest = format!("the processor, which is the load generator's too, and not the disk{empty}");
        section.goals.push(Goal::at_least(what, 40_000.0, lease.rate, "/s").rest(rest.clone()));
        let cpu = lease.cpu.as_secs_f64() * 1e6;
        section.goals.push(Goal::at_most(format!("{what}, CPU a call"), 15.0, cpu, " µs").rest(rest));
    }
    let in_memory = of(cases::IN_MEMORY, cases::ENDPOINT, cases::MANY);
    if let (Some(endpoint), Some(peer)) = (ours(cases::ENDPOINT, cases::MANY), in_memory) {
        let what = format!("{}, 16 clients, of {}", cases::ENDPOINT, cases::IN_MEMORY);
        let rest = format!(
            "{} of processor time a call, the peer {}: the kernel makes and deletes the links of both, one at a time; ours has the rules' elements, \
             anti-spoofing and two commits beside them",
            time(endpoint.cpu),
            time(peer.cpu)
        );
        section.goals.push(Goal::at_least(what, 2.0, endpoint.rate / peer.rate, " ×").rest(rest));
    }
    for what in [cases::LEASE, cases::JOIN, cases::ENDPOINT] {
        for clients in [1, cases::MANY] {
            for by in [cases::IN_MEMORY, cases::DURABLE] {
                let (Some(ours), Some(peer)) = (ours(what, clients), of(by, what, clients)) else { continue };
                let what = format!("{what}, {clients} clients");
                section.bars.push(Bar { what, baseline: by, ratio: peer.rate / ours.rate });
            }
        }
    }
    for what in [cases::JOIN, cases::EMPTY] {
        for (clients, wanted) in [(1, 15_000.0), (16, 70_000.0)] {
            let Some(sample) = ours(what, clients) else { continue };
            let peer = of(cases::IN_MEMORY, what, clients)
                .map_or_else(String::new, |peer| format!(", of {} {}", cases::IN_MEMORY, time(peer.cpu)));
            let rest = format!("{} of processor time a call{peer}, beside the load generator's", time(sample.cpu));
            let rate = Goal::at_least(format!("{what}, {clients} clients"), wanted, sample.rate, "/s");
            section.goals.push(rate.rest(rest.clone()));
            if clients > 1 {
                let cpu = sample.cpu.as_secs_f64() * 1e6;
                let goal = Goal::at_most(format!("{what}, {clients} clients, CPU a call"), 20.0, cpu, " µs");
                section.goals.push(goal.rest(rest));
            }
        }
    }
}

fn commit(commits: &mut Commits, time: Duration) -> Result<Sample> {
    let watch = Watch::new(std::process::id());
    let before = watch.cpu()?;
    let (elapsed, latencies) = commits.run(time)?;
    let cpu = watch.cpu()?.saturating_sub(before);
    Ok(sample(elapsed, &latencies, cpu, 0))
}

fn sample(elapsed: Duration, latencies: &Latencies, cpu: Duration, memory: u64) -> Sample {
    let calls = latencies.count() as f64;
    Sample {
        rate: calls / elapsed.as_secs_f64(),
        p50: latencies.percentile(50),
        p99: latencies.percentile(99),
        cpu: cpu.div_f64(calls.max(1.0)),
        memory,
    }
}

const TEXT: &str = "Real daemons, a database on a disk, one load generator in one thread on the same two cores. CPU is the daemon's, \
with its children's. A raw commit is one row in one transaction, WAL and FULL as in ciao. Docker's Go helpers serve \
the least that such plugins do: addresses in a map, veth pairs on a bridge of the host by netlink, no rules; the second \
one commits each change with bbolt, the database of Docker's own drivers.";
const COMMIT: &str = "raw SQLite commit";

fn measure(case: &Case, time: Duration) -> Result<Sample> {
    let watch = Watch::new(case.daemon.pid);
    let load = Load { socket: case.daemon.socket.clone(), connections: case.connections };
    let before = watch.cpu()?;
    let run = load.run(&mut case.make(), Limit::time(time))?;
    let cpu = watch.cpu()?.saturating_sub(before);
    let memory = watch.memory()?.resident;
    // What goes on in the background is this case's and must not fall on the next one.
    sleep(Duration::from_millis(60));
    Ok(sample(run.elapsed, &run.all(), cpu, memory))
}

fn median_of(samples: &[Sample]) -> Sample {
    Sample {
        rate: median(samples.iter().map(|sample| sample.rate)),
        p50: median_duration(samples.iter().map(|sample| sample.p50)),
        p99: median_duration(samples.iter().map(|sample| sample.p99)),
        cpu: median_duration(samples.iter().map(|sample| sample.cpu)),
        memory: samples.iter().map(|sample| sample.memory).max().unwrap_or(0),
    }
}
