// SPDX-License-Identifier: Apache-2.0
//! How the exchange with each other host stands, and what was refused of it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use ciao_common::store::ListState;
use ciao_common::sync::lock;
use ciao_common::types::{HostId, TenantId};

/// The fault of a certificate that ends soon, or cannot be read.
pub(crate) const CERTIFICATE: &str = "certificate";
/// The fault of the list that this host announces.
pub(crate) const LIST: &str = "list";
/// Tries in a row without an answer until a host is taken for silent: some seconds, longer than a restart.
const SILENT: u32 = 4;
/// The longest time between tries to reach a host.
const LONGEST: Duration = Duration::from_secs(30);
/// How often this host goes on above what one other host has of its list, at most: that is the whole list to all.
const RAISE_EVERY: Duration = Duration::from_secs(3600);
/// Rows that one host's lists may change a second: whoever changes more waits afterwards, and nobody else.
const ROWS_A_SECOND: u32 = 5_000;
/// How often the same subject is logged, at most.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Subjects of a kind whose last message is remembered.
const SUBJECTS: usize = 1_000;

/// The other hosts.
#[derive(Default)]
pub(crate) struct Peers {
    hosts: Mutex<BTreeMap<HostId, Peer>>,
    /// Connections from each address, at a time.
    connections: Mutex<BTreeMap<IpAddr, usize>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    /// Subjects of each kind of message, and when it was logged last.
    logged: Mutex<BTreeMap<&'static str, BTreeMap<String, Instant>>>,
    /// Held while a list is recorded.
    pub(crate) recording: Mutex<()>,
    /// The tenants whose recorded lists have changed and are not in the kernel yet, with the hosts that changed them.
    pub(crate) changed: Mutex<BTreeMap<TenantId, BTreeSet<HostId>>>,
    /// Held while these are brought into the kernel.
    pub(crate) following: Mutex<()>,
    /// Why the exchange does not run, by what it lacks.
    faults: Mutex<BTreeMap<&'static str, String>>,
    /// When this host's certificate ends, in seconds since 1970; 0: it is not known.
    pub(crate) certificate_end: AtomicU64,
    /// Of what is different on each host.
    seed: RandomState,
}

/// Another host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// What it has of this host's list, as it said last.
    pub(crate) has: Option<ListState>,
    /// When it said so.
    pub(crate) heard: Option<Instant>,
    /// Why it was not reached; `None`: it was, or was not tried.
    pub(crate) error: Option<String>,
    failures: u32,
    /// Tries since it was reached last.
    unanswered: u32,
    /// Whether its last answer was one, and not what it should be.
    is_wrong: bool,
    /// When this host went on above what it has.
    raised: Option<Instant>,
    /// When its next list may be recorded.
    paused: Option<Instant>,
    /// Whether it was silent when [`Peers::turned`] was asked last.
    was_silent: Option<bool>,
    tried: Option<Instant>,
    is_asked: bool,
}

impl Peer {
    /// When it is asked next: at once if it does not have `own`, else `period` after the last time; after failures,
    /// later and later.
    ///
    /// `spread`, from 0.75 to 1.25, keeps many hosts from asking a host at the same moment.
    fn is_due(&self, own: &ListState, period: Duration, spread: f64) -> bool {
        let wait = match self.failures {
            0 if self.has.as_ref() == Some(own) => period,
            0 => Duration::ZERO,
            failures => Duration::from_secs(1 << (failures - 1).min(8)).min(LONGEST),
        };
        !self.is_asked && self.tried.is_none_or(|tried| tried.elapsed() >= wait.mul_f64(spread))
    }
}

impl Peers {
    /// Keeps these hosts, and returns up to `limit` hosts less those that are being asked, which are due and are being
    /// asked from now on; with what each has.
    pub(crate) fn due<'a>(
        &self,
        hosts: impl Iterator<Item = &'a HostId>,
        own: &ListState,
        (limit, period): (usize, Duration),
    ) -> Vec<(HostId, Option<ListState>)> {
        let mut peers = lock(&self.hosts);
        let mut before = std::mem::take(&mut *peers);
        peers.extend(hosts.map(|host| (host.clone(), before.remove(host).unwrap_or_default())));
        let free = limit.saturating_sub(peers.values().filter(|peer| peer.is_asked).count());
        let spread = |host: &HostId, failures: u32| 0.75 + (self.seed.hash_one((host, failures)) % 512) as f64 / 1024.0;
        let is_due = |host: &HostId, peer: &Peer| peer.is_due(own, period, spread(host, peer.failures));
        let mut due: Vec<_> = peers.iter_mut().filter(|(host, peer)| is_due(host, peer)).collect();
        // Many that do not answer keep nobody waiting.
        due.sort_by_key(|(_, peer)| (peer.failures > 0, peer.tried));
        let asked = due.into_iter().take(free).map(|(host, peer)| {
            (peer.is_asked, peer.is_wrong, peer.tried) = (true, false, Some(Instant::now()));
            (host.clone(), peer.has.clone())
        });
        asked.collect()
    }

    /// Records what a host answered. Returns its error, if it is a new one.
    pub(crate) fn answered(&self, host: &HostId, answer: Result<Option<ListState>, String>) -> Option<String> {
        let mut peers = lock(&self.hosts);
        let peer = peers.get_mut(host)?;
        peer.is_asked = false;
        match answer {
            Ok(state) => {
                (peer.has, peer.heard, peer.error, peer.failures) = (state, Some(Instant::now()), None, 0);
                peer.is_wrong = false;
                None
            }
            Err(error) => {
                peer.failures += 1;
                peer.unanswered += 1;
                let is_new = peer.error.as_ref() != Some(&error);
                peer.error = Some(error.clone());
                is_new.then_some(error)
            }
        }
    }

    /// A host was heard, and told what it has of this host's list: it is reachable. `true`: something waits for it.
    pub(crate) fn told(&self, host: &HostId, has: Option<ListState>) -> bool {
        let mut peers = lock(&self.hosts);
        let peer = peers.entry(host.clone()).or_default();
        let is_news = peer.has != has || peer.failures > 0;
        (peer.has, peer.unanswered) = (has, 0);
        // Being reachable does not mend a wrong answer.
        if !peer.is_wrong {
            peer.failures = 0;
        }
        is_news
    }

    /// Whether this host may go on above what a host has of its list: for a broken one everybody would get it for ever.
    pub(crate) fn may_raise(&self, host: &HostId) -> bool {
        let mut peers = lock(&self.hosts);
        let peer = peers.get_mut(host).filter(|peer| peer.raised.is_none_or(|at| at.elapsed() >= RAISE_EVERY));
        peer.map(|peer| peer.raised = Some(Instant::now())).is_some()
    }

    /// How long the next list of a host waits.
    pub(crate) fn pause_of(&self, host: &HostId) -> Duration {
        let paused = lock(&self.hosts).get(host).and_then(|peer| peer.paused);
        paused.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// A list of a host has changed so many rows.
    pub(crate) fn recorded(&self, host: &HostId, rows: u32) {
        if let Some(peer) = lock(&self.hosts).get_mut(host) {
            peer.paused = Some(Instant::now() + Duration::from_secs(1) * rows / ROWS_A_SECOND);
        }
    }

    /// A host has answered, and perhaps not what it should.
    pub(crate) fn reached(&self, host: &HostId) {
        if let Some(peer) = lock(&self.hosts).get_mut(host) {
            (peer.unanswered, peer.is_wrong) = (0, true);
        }
    }

    /// Has a host asked soon: whether it answers matters.
    pub(crate) fn probe(&self, host: &HostId) {
        if let Some(peer) = lock(&self.hosts).get_mut(host).filter(|peer| peer.failures == 0) {
            peer.tried = None;
        }
    }

    /// Whether a host is silent, if that has changed or was not asked before, and is known.
    pub(crate) fn turned(&self, host: &HostId) -> Option<bool> {
        let mut peers = lock(&self.hosts);
        let peer = peers.get_mut(host)?;
        let is_silent = match peer.unanswered {
            0 => Some(false),
            tries => (tries >= SILENT).then_some(true),
        };
        let is_silent = is_silent.filter(|is| peer.was_silent != Some(*is))?;
        peer.was_silent = Some(is_silent);
        Some(is_silent)
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<HostId, Peer> {
        lock(&self.hosts).clone()
    }

    /// Counts a connection from an address. `false`: it has more than `limit`.
    pub(crate) fn connect(&self, from: IpAddr, limit: usize) -> bool {
        let mut connections = lock(&self.connections);
        let count = connections.entry(from).or_default();
        *count += 1;
        *count <= limit
    }

    /// A connection from an address has ended.
    pub(crate) fn disconnect(&self, from: IpAddr) {
        let mut connections = lock(&self.connections);
        if let Some(count) = connections.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&from);
            }
        }
    }

    /// Counts what was refused, and why.
    pub(crate) fn refuse(&self, reason: &'static str, count: u64) {
        *lock(&self.refused).entry(reason).or_default() += count;
    }

    /// What was refused since the start, by reason.
    pub(crate) fn refused(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.refused).clone()
    }

    /// Whether a message of a kind about a subject is to be logged: once a while.
    pub(crate) fn may_log(&self, kind: &'static str, subject: String) -> bool {
        let mut logged = lock(&self.logged);
        let subjects = logged.entry(kind).or_default();
        subjects.retain(|_, at| at.elapsed() < LOG_EVERY);
        // A stranger can have many addresses.
        let may = subjects.len() < SUBJECTS && !subjects.contains_key(&subject);
        if may {
            subjects.insert(subject, Instant::now());
        }
        may
    }

    /// Why the exchange lacks something; `None`: it has it. Returns the reason, if it is a new one.
    pub(crate) fn set_fault(&self, what: &'static str, why: Option<String>) -> Option<String> {
        let mut faults = lock(&self.faults);
        match why {
            Some(why) => (faults.insert(what, why.clone()).as_ref() != Some(&why)).then_some(why),
            None => {
                faults.remove(what);
                None
            }
        }
    }

    /// Why the exchange does not run.
    pub(crate) fn faults(&self) -> BTreeMap<&'static str, String> {
        lock(&self.faults).clone()
    }
}

#[cfg(test)]
mod tests;
