// SPDX-License-Identifier: Apache-2.0
//! [`run`]: workers do random operations on a private host, all at once, while faults hit its daemons and their calls
//! in the middle of them; then everything comes to rest, ciao reconciles, and store, kernel and Docker are compared.
//!
//! A seed gives each worker the same operations and the same faults again. What they meet is a matter of time, and
//! differs from run to run.

mod fault;
mod operation;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::scope;

use anyhow::{Context, Result, ensure};

use crate::chance::Chance;
use crate::checker;
use crate::lab::{Builder, Host};
use crate::wired::Wired;

/// How often ciao may reconcile before all agrees.
const RECONCILES: usize = 2;

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of all that is random.
    pub seed: u64,
    /// How many faults, in all.
    pub faults: usize,
    /// After how many of them the host comes to rest.
    pub rest_every: usize,
    /// How many operations are under way at once.
    pub workers: u64,
    /// Whether dockerd asks the plugins through wires that fail, or directly.
    pub wired: bool,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Docker's and the launcher's commands.
    pub operations: usize,
    /// Those of them that failed: many ask for what cannot be, and some met a fault.
    pub failed: usize,
    /// How often each fault struck.
    pub faults: BTreeMap<String, usize>,
    /// How often store, kernel and Docker were compared.
    pub rests: usize,
    /// What reconcile repaired, in all.
    pub repairs: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, failed, rests, repairs, .. } = self;
        let faults: usize = self.faults.values().sum();
        writeln!(
            f,
            "{operations} operations ({failed} failed), {faults} faults, {repairs} repairs, {rests} times at rest"
        )?;
        self.faults.iter().try_for_each(|(fault, count)| writeln!(f, "{count:6} {fault}"))
    }
}

/// Runs it. What it did is printed, a line an operation and a fault.
///
/// # Errors
/// The first time that something is lost or left over, with what.
pub fn run(builder: Builder, plan: &Plan) -> Result<Tally> {
    let wired = Wired::open(builder)?;
    if !plan.wired {
        wired.bypass()?;
    }
    let mut tally = Tally::default();
    let mut chance = Chance::new(plan.seed);
    let mut round = 0;
    while tally.faults.values().sum::<usize>() < plan.faults {
        round += 1;
        self::round(&wired, plan, round, &mut chance, &mut tally)?;
        rest(&wired.host, round, &mut tally)?;
    }
    wired.host.sh(operation::REMOVE_ALL).context("remove everything")?;
    rest(&wired.host, round, &mut tally)?;
    let rows = wired.host.sh("sqlite3 /var/lib/ciao/ciao.db 'SELECT (SELECT count(*) FROM pool_set) + (SELECT count(*) FROM network_record) + (SELECT count(*) FROM vnic_record) + (SELECT count(*) FROM endpoint_record)'")?;
    ensure!(rows == "0", "{rows} rows are left when all is removed");
    Ok(tally)
}

/// Operations and faults, until as many have struck as there are in a round.
fn round(wired: &Wired, plan: &Plan, round: u64, chance: &mut Chance, tally: &mut Tally) -> Result<()> {
    let (done, operations, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let work = |worker: u64| -> Result<()> {
        let mut chance = Chance::new(plan.seed ^ (round << 32) ^ (worker << 16));
        while !done.load(Ordering::Acquire) {
            let script = operation::any(&mut chance);
            let output = wired.host.try_sh(&script)?;
            operations.fetch_add(1, Ordering::Relaxed);
            failed.fetch_add(usize::from(output.code != 0), Ordering::Relaxed);
            println!(
                "{round}.{worker}: {script}: {} {}",
                output.code,
                output.stderr.lines().last().unwrap_or_default()
            );
        }
        Ok(())
    };
    let struck = scope(|scope| {
        let workers: Vec<_> = (1..=plan.workers).map(|worker| scope.spawn(move || work(worker))).collect();
        let struck = (0..plan.rest_every).try_for_each(|_| {
            let fault = fault::strike(wired, chance, plan.wired)?;
            println!("{round}: fault: {fault}");
            *tally.faults.entry(fault).or_default() += 1;
            Ok(())
        });
        done.store(true, Ordering::Release);
        let worked = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
        worked.fold(struck, Result::and)
    });
    tally.operations += operations.into_inner();
    tally.failed += failed.into_inner();
    struck
}

/// Nothing is under way: what faults left is repaired, and all agree. A container that a killed dockerd lost sight of
/// may end only now, and its endpoint with the next reconcile: the daemon has one every minute.
fn rest(host: &Host, round: u64, tally: &mut Tally) -> Result<()> {
    let mut printed = String::new();
    let mut differences = Vec::new();
    for reconcile in 1..=RECONCILES {
        let repaired = checker::repair(host)?;
        differences = checker::differences(host)?;
        let repairs = repaired.lines().filter(|line| !line.is_empty()).count();
        println!("{round}: reconcile {reconcile} at rest: {repairs} repairs, {} differences", differences.len());
        tally.repairs += repairs;
        printed += &repaired;
        if differences.is_empty() {
            break;
        }
        println!("{differences:#?}");
    }
    tally.rests += 1;
    ensure!(differences.is_empty(), "round {round}: {differences:#?}\nreconcile printed:\n{printed}");
    Ok(())
}
