// SPDX-License-Identifier: Apache-2.0
//! ciao-ipam killed with SIGKILL under a load of many clients, again and again: every address that was answered is
//! held, none is given twice, and what was not answered is pending or absent.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ciao_tests::chance::Chance;
use ciao_tests::lab::Host;
use ciao_tests::proxy::call;
use serde_json::{Value, json};

use crate::scene::check_addresses;

const SUBNET: &str = "10.9.0.0/16";
/// How many addresses a client holds before it releases one.
const HOARD: usize = 20;
/// While the daemon is dead.
const PAUSE: Duration = Duration::from_millis(5);

/// What the clients have got.
#[derive(Default)]
struct Ledger {
    /// Addresses that were answered and that no client began to release.
    held: BTreeSet<String>,
    /// Replies with an address that was held.
    twice: Vec<String>,
    /// Calls without an answer, which the daemon may have carried out or not.
    unanswered: usize,
    answered: usize,
}

/// What a run under load showed.
#[derive(Debug)]
struct Outcome {
    answered: usize,
    unanswered: usize,
    /// Sentences: addresses given twice, or answered and not held.
    wrong: Vec<String>,
}

/// Kills and starts a host's ciao-ipam so many times while so many clients ask it for addresses and give some back.
fn kill_under_load(host: &Host, clients: usize, kills: usize, seed: u64) -> Result<Outcome> {
    let socket = host.path("/run/ciao/ciao-ipam.sock");
    let pool = ask(&socket, "RequestPool", &json!({ "AddressSpace": "local", "Pool": SUBNET }))?;
    let pool = pool["PoolID"].as_str().context("ciao-ipam names no pool")?.to_owned();
    let (ledger, done) = (Mutex::new(Ledger::default()), AtomicBool::new(false));
    scope(|scope| {
        for client in 0..clients {
            let (socket, pool, ledger, done) = (socket.clone(), &pool, &ledger, &done);
            let chance = Chance::new(seed ^ u64::try_from(client).unwrap_or_default());
            scope.spawn(move || be_client(&socket, pool, ledger, done, chance));
        }
        let killed = kill_and_start(host, kills, Chance::new(seed));
        done.store(true, Ordering::Release);
        killed
    })?;
    let ledger = ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    judge(host, ledger)
}

fn kill_and_start(host: &Host, kills: usize, mut chance: Chance) -> Result<()> {
    for _ in 0..kills {
        sleep(Duration::from_millis(10 + chance.below(40)));
        host.ciao_ipam().kill()?;
        host.ciao_ipam().start()?;
    }
    Ok(())
}

fn be_client(socket: &Path, pool: &str, ledger: &Mutex<Ledger>, done: &AtomicBool, mut chance: Chance) {
    let ledger = || ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let mut mine = Vec::new();
    while !done.load(Ordering::Acquire) {
        let gives_back = mine.len() >= HOARD || (!mine.is_empty() && chance.below(3) == 0);
        let answer = if gives_back {
            let address: String = mine.swap_remove(chance.index(mine.len()));
            // From the request on another client may get it.
            ledger().held.remove(&address);
            ask(socket, "ReleaseAddress", &json!({ "PoolID": pool, "Address": address }))
        } else {
            ask(socket, "RequestAddress", &json!({ "PoolID": pool, "Address": "" }))
        };
        let mut ledger = ledger();
        match answer {
            Err(_) => ledger.unanswered += 1,
            Ok(reply) => {
                ledger.answered += 1;
                if let Some(address) = reply["Address"].as_str().and_then(|cidr| cidr.split('/').next()) {
                    if !ledger.held.insert(address.to_owned()) {
                        ledger.twice.push(address.to_owned());
                    }
                    mine.push(address.to_owned());
                }
                continue;
            }
        }
        drop(ledger);
        sleep(PAUSE);
    }
}

/// The ledger against the records.
fn judge(host: &Host, ledger: Ledger) -> Result<Outcome> {
    let rows = host.sh(
        "sqlite3 /var/lib/ciao/ciao.db \"SELECT a.address FROM address_record a JOIN pool_set s ON s.id = a.set_id
         WHERE s.subnet = '10.9.0.0/16'\"",
    )?;
    let recorded: BTreeSet<String> = rows.lines().map(str::to_owned).collect();
    let twice = ledger.twice.iter().map(|address| format!("{address} was given twice"));
    let lost = ledger.held.difference(&recorded).map(|address| format!("{address} was answered and is not held"));
    let mut wrong: Vec<_> = twice.chain(lost).collect();
    let unclaimed = recorded.difference(&ledger.held).count();
    if unclaimed > ledger.unanswered {
        wrong.push(format!(
            "{unclaimed} addresses are held by nobody, after {} calls without answer",
            ledger.unanswered
        ));
    }
    Ok(Outcome { answered: ledger.answered, unanswered: ledger.unanswered, wrong })
}

fn ask(socket: &Path, method: &str, body: &Value) -> Result<Value> {
    let (status, reply) = call(socket, &format!("IpamDriver.{method}"), &body.to_string())?;
    ensure!(status == 200, "{method}: {status} {reply}");
    Ok(serde_json::from_str(&reply)?)
}

/// How often the daemon is killed: `CIAO_TEST_KILLS`, or so often that each kind of moment is met.
fn kills() -> usize {
    std::env::var("CIAO_TEST_KILLS").map_or(12, |number| number.parse().expect("CIAO_TEST_KILLS is a number"))
}

#[test]
fn addresses_granted_by_a_killed_daemon_are_held_and_not_granted_twice() {
    let host = Host::builder().name("load").start().unwrap();
    let outcome = kill_under_load(&host, 16, kills(), 1).unwrap();
    println!("{} kills: {outcome:?}", kills());
    assert!(outcome.wrong.is_empty(), "{outcome:#?}");
    assert!(outcome.answered > 0 && outcome.unanswered > 0, "the kills met no call, or every call: {outcome:?}");
    check_addresses(&host);
}
