// SPDX-License-Identifier: Apache-2.0
//! Networks of different tenants with one subnet that are made at the same moment, on an engine that gives both drivers
//! no common id: all but one are refused, and when their pools are released, the last one is known.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ciao_common::sync::lock;
use ciao_common::types::Subnet;

/// How long the first one waits for the others' pools to be released. Shorter than the engine's patience with a call.
const PATIENCE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(25);

/// The subnets of networks that wait so.
#[derive(Default)]
pub(crate) struct Contests(Mutex<BTreeSet<Subnet>>);

/// A network's part in a contest. Dropping it lets another one wait.
pub(crate) struct Contest<'a> {
    contests: &'a Contests,
    subnet: Subnet,
    since: Instant,
}

impl Contests {
    /// Waits a moment, as the one network that may.
    ///
    /// # Errors
    /// Another request waits already, or this one has waited long enough.
    pub(crate) fn wait<'a>(&'a self, contest: Option<Contest<'a>>, subnet: Subnet) -> Result<Contest<'a>> {
        let refusal = || {
            format!(
                "several networks with subnet {subnet} are being created, and this engine does not tell which pool belongs to \
                 which: create this one again, or pass the tenant to both drivers with --ipam-opt tenant=T -o tenant=T"
            )
        };
        let contest = match contest {
            Some(contest) => contest,
            None => {
                let first = lock(&self.0).insert(subnet);
                ensure!(first, refusal());
                Contest { contests: self, subnet, since: Instant::now() }
            }
        };
        ensure!(contest.since.elapsed() < PATIENCE, refusal());
        sleep(TICK);
        Ok(contest)
    }
}

impl Drop for Contest<'_> {
    fn drop(&mut self) {
        lock(&self.contests.0).remove(&self.subnet);
    }
}
