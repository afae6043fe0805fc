// SPDX-License-Identifier: Apache-2.0
//! The daemons under load: calls a second, latency, processor time a call, and memory, beside what the disk and the
//! kernel take alone.
//!
//! Each round measures every case and every floor once, one after the other, so that a noisy minute of the machine
//! meets them all; what is reported is the median of the rounds.

mod cases;
mod links;

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use ciao_tests::lab::Host;

use crate::floor::sqlite::Commits;
use crate::host;
use crate::load::{Limit, Load};
use crate::numbers::{Latencies, bytes, digits, median, median_duration, time};
use crate::process::{Memory, Watch};
use crate::report::{Bar, Goal, Section, Table};
use cases::{Case, Daemon, Setting};

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
    let idle = memories(&host)?;
    let setting = Setting::prepare(&host)?;
    if only.is_some() {
        eprintln!("bench: ciao-net is process {}, ciao-ipam {}", host.ciao_net().pid()?, host.ciao_ipam().pid()?);
    }
    let folder = host::folder()?;
    let mut commits = Commits::open(folder.path())?;
    let mut cases = setting.cases();
    cases.retain(|case| only.is_none_or(|word| case.what.contains(word)));
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    let mut floor = Vec::new();
    for _ in 0..size.rounds {
        floor.push(commit(&mut commits, size.time)?);
        for (case, samples) in cases.iter().zip(&mut samples) {
            samples.push(measure(&host, case, size.time).with_context(|| case.what.to_owned())?);
        }
    }
    let floor = median_of(&floor);
    let results: Vec<_> = samples.iter().map(|samples| median_of(samples)).collect();
    let mut section = Section { title: "Service".into(), text: TEXT.into(), ..Section::default() };
    section.tables.push(table(&floor, cases.iter().zip(&results)));
    let of = |what: &str, clients: usize| {
        cases.iter().zip(&results).find(|(case, _)| case.is(what, clients)).map(|(_, result)| result)
    };
    goals(&floor, of, &mut section);
    if only.is_none() {
        links::measure(&host, &setting, size, &mut section)?;
        memory_goals(&idle, &memories(&host)?, &mut section);
    }
    Ok(section)
}

fn table<'a>(floor: &Sample, results: impl Iterator<Item = (&'a Case, &'a Sample)>) -> Table {
    let mut table = Table::new(["what", "clients", "connections", "calls/s", "p50", "p99", "CPU a call", "RSS"]);
    let speed = |sample: &Sample| [digits(sample.rate), time(sample.p50), time(sample.p99)];
    let name = ["raw SQLite commit", "1", ""].map(str::to_owned);
    table.row(name.into_iter().chain(speed(floor)).chain([time(floor.cpu), String::new()]));
    for (case, sample) in results {
        let name = [case.what.to_owned(), case.clients.to_string(), case.connections_word().to_owned()];
        table.row(name.into_iter().chain(speed(sample)).chain([time(sample.cpu), bytes(sample.memory)]));
    }
    table
}

fn goals<'a>(floor: &Sample, of: impl Fn(&str, usize) -> Option<&'a Sample>, section: &mut Section) {
    for (clients, wanted) in [(1, 0.8), (16, 10.0)] {
        if let Some(lease) = of(cases::LEASE, clients) {
            let what = format!("Request+ReleaseAddress, {clients} clients, of 1 committing raw");
            section.goals.push(Goal::at_least(what, wanted, lease.rate / floor.rate, " ×"));
            let what = format!("a lease or release, {clients} clients");
            section.bars.push(Bar { what, baseline: "raw commit", ratio: floor.rate / lease.rate });
        }
    }
    for what in [cases::JOIN, cases::CAPABILITIES] {
        for (clients, wanted) in [(1, 15_000.0), (16, 70_000.0)] {
            let Some(sample) = of(what, clients) else { continue };
            section.goals.push(Goal::at_least(format!("{what}, {clients} clients"), wanted, sample.rate, "/s"));
            if clients > 1 {
                let cpu = sample.cpu.as_secs_f64() * 1e6;
                section.goals.push(Goal::at_most(format!("{what}, {clients} clients, CPU a call"), 20.0, cpu, " µs"));
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
with its children's. A raw commit is one row in one transaction, WAL and FULL as in ciao.";

fn measure(host: &Host, case: &Case, time: Duration) -> Result<Sample> {
    let (socket, pid) = match case.daemon {
        Daemon::Ipam => (host::ipam_socket(host), host.ciao_ipam().pid()?),
        Daemon::Net => (host::net_socket(host), host.ciao_net().pid()?),
    };
    let watch = Watch::new(pid);
    let load = Load { socket, connections: case.connections };
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

fn memories(host: &Host) -> Result<[(&'static str, Memory); 2]> {
    let of = |pid: u32| Watch::new(pid).memory();
    Ok([("ciao-net", of(host.ciao_net().pid()?)?), ("ciao-ipam", of(host.ciao_ipam().pid()?)?)])
}

fn memory_goals(idle: &[(&'static str, Memory)], loaded: &[(&'static str, Memory)], section: &mut Section) {
    let mut table =
        Table::new(["memory", "idle", "of it its own", "most under load", "after the load", "of it its own"]);
    for ((name, idle), (_, loaded)) in idle.iter().zip(loaded) {
        let cells = [idle.resident, idle.anonymous, loaded.peak, loaded.resident, loaded.anonymous].map(bytes);
        table.row([(*name).to_owned()].into_iter().chain(cells));
        let mb = |bytes: u64| bytes as f64 / 1e6;
        section.goals.push(Goal::at_most(format!("{name}, RSS idle"), 6.0, mb(idle.resident), " MB"));
        section.goals.push(Goal::at_most(format!("{name}, RSS under load"), 12.0, mb(loaded.peak), " MB"));
    }
    section.tables.push(table);
}
