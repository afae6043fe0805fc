// SPDX-License-Identifier: Apache-2.0
//! What a lease costs in pools of all sizes, full and empty.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::{Size, file_sizes};
use crate::calls::{self, Lease};
use crate::host;
use crate::http::Call;
use crate::load::{Client, Limit, Load};
use crate::numbers::{bytes, count, digits, median, median_duration, time};
use crate::process::Watch;
use crate::report::{Goal, Section, Table};

/// Clients that fill a pool: waiting requests share a commit.
const FILLERS: usize = 64;
/// So many that a commit is shared and a lease's own cost is seen beside the disk's.
const MANY: usize = 8;
const TENANT: &str = "leases";

/// `RequestAddress`, again and again, and never a release.
struct Fill(Call);

impl Client for Fill {
    fn next(&mut self) -> Call {
        self.0.clone()
    }

    fn hear(&mut self, _body: &[u8]) -> Result<()> {
        Ok(())
    }
}

struct Pool {
    name: String,
    id: String,
    alone: Vec<Duration>,
    cpu: Vec<f64>,
    rate: Vec<f64>,
}

pub(super) fn measure(size: &Size, section: &mut Section) -> Result<()> {
    let host = host::without_docker("leases")?;
    let ipam = host::ipam_socket(&host);
    let load = Load::kept_alive(ipam.clone());
    let watch = Watch::new(host.ciao_ipam().pid()?);
    let mut pools = Vec::new();
    let mut filling = Table::new(["filled with", "took", "leases/s"]);
    for (name, subnet, gateway, leases) in [
        ("empty /24".to_owned(), "192.168.5.0/24", "192.168.5.1", 0),
        (format!("/8 with {} leases", count(size.leases)), "10.0.0.0/8", "10.0.0.1", size.leases),
        (format!("/16 with {} leases", count(size.full)), "172.16.0.0/16", "172.16.0.1", size.full),
        ("empty IPv6 /64".to_owned(), "fd00:5::/64", "fd00:5::1", 0),
    ] {
        let id = calls::request_pool(&ipam, TENANT, subnet, gateway)?;
        if leases > 0 {
            let took = fill(&load, &id, leases).with_context(|| format!("fill {subnet}"))?;
            filling.row([name.clone(), time(took), digits(leases as f64 / took.as_secs_f64())]);
        }
        pools.push(Pool { name, id, alone: Vec::new(), cpu: Vec::new(), rate: Vec::new() });
    }
    for _ in 0..size.rounds {
        for pool in &mut pools {
            pool.measure(&load, watch, Duration::from_millis(size.milliseconds))?;
        }
    }
    report(&pools, section);
    section.tables.push(filling);
    let [file, log] = file_sizes(&host)?;
    let mut table = Table::new(["with all these leases", ""]);
    table.row(["database".to_owned(), bytes(file)]);
    table.row(["its write-ahead log".to_owned(), bytes(log)]);
    table.row(["ciao-ipam, RSS".to_owned(), bytes(watch.memory()?.resident)]);
    section.tables.push(table);
    Ok(())
}

impl Pool {
    fn measure(&mut self, load: &Load, watch: Watch, time: Duration) -> Result<()> {
        let clients = |count: usize| -> Vec<Box<dyn Client>> {
            (0..count).map(|_| Box::new(Lease::new(&self.id)) as Box<dyn Client>).collect()
        };
        let alone = load.run(&mut clients(1), Limit::time(time))?;
        let before = watch.cpu()?;
        let together = load.run(&mut clients(MANY), Limit::time(time))?;
        let cpu = watch.cpu()?.saturating_sub(before);
        self.alone.push(alone.all().percentile(50));
        self.cpu.push(cpu.as_secs_f64() / together.calls() as f64);
        self.rate.push(together.calls() as f64 / together.elapsed.as_secs_f64());
        Ok(())
    }
}

fn report(pools: &[Pool], section: &mut Section) {
    let mut table = Table::new([
        "a lease or release in",
        "p50, 1 client",
        "ratio",
        "calls/s, 8 clients",
        "CPU a call, 8 clients",
        "ratio",
    ]);
    let Some(first) = pools.first() else { return };
    for pool in pools {
        let alone = |pool: &Pool| median_duration(pool.alone.iter().copied());
        let ratio = alone(pool).as_secs_f64() / alone(first).as_secs_f64().max(1e-9);
        let (cpu, of_first) = (median(pool.cpu.iter().copied()), median(first.cpu.iter().copied()));
        table.row([
            pool.name.clone(),
            time(alone(pool)),
            digits(ratio),
            digits(median(pool.rate.iter().copied())),
            time(Duration::from_secs_f64(cpu)),
            digits(cpu / of_first.max(1e-9)),
        ]);
        if pool.id != first.id {
            section.goals.push(Goal::at_most(format!("a lease, {}, of an empty /24", pool.name), 1.2, ratio, " ×"));
        }
    }
    section.tables.push(table);
}

/// Leases so many addresses; returns how long it took.
pub(super) fn fill(load: &Load, pool: &str, leases: usize) -> Result<Duration> {
    let call = Call::new("/IpamDriver.RequestAddress", &json!({"PoolID": pool, "Address": "", "Options": {}}));
    let fillers = FILLERS.min(leases);
    let mut clients: Vec<Box<dyn Client>> =
        (0..fillers).map(|_| Box::new(Fill(call.clone())) as Box<dyn Client>).collect();
    let start = Instant::now();
    // Those that wait when the limit is reached end one call later, each.
    let calls = (leases + 1).saturating_sub(fillers);
    load.run(&mut clients, Limit { time: Duration::from_secs(900), calls })?;
    Ok(start.elapsed())
}
