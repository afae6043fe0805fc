// SPDX-License-Identifier: Apache-2.0
//! How the exchange with each other host stands, and what was refused of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ciao_common::store::ListState;
use ciao_common::sync::lock;
use ciao_common::types::{HostId, TenantId};

/// The longest time between tries to reach a host.
const LONGEST: Duration = Duration::from_secs(30);
/// How often the same subject is logged, at most.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Subjects whose last message is remembered.
const SUBJECTS: usize = 1_000;

/// The other hosts.
#[derive(Default)]
pub(crate) struct Peers {
    hosts: Mutex<BTreeMap<HostId, Peer>>,
    /// Connections from each address, at a time.
    connections: Mutex<BTreeMap<IpAddr, usize>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    logged: Mutex<BTreeMap<String, Instant>>,
    /// Held while a list is recorded.
    pub(crate) recording: Mutex<()>,
    /// The tenants whose recorded lists have changed and are not in the kernel yet, with the hosts that changed them.
    pub(crate) changed: Mutex<BTreeMap<TenantId, BTreeSet<HostId>>>,
    /// Held while these are brought into the kernel.
    pub(crate) following: Mutex<()>,
    /// Why the exchange does not run, by what it lacks.
    faults: Mutex<BTreeMap<&'static str, String>>,
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
    tried: Option<Instant>,
    is_asked: bool,
}

impl Peer {
    /// When it is asked next: at once if it does not have `own`, else `period` after the last time; after failures,
    /// later and later.
    fn is_due(&self, own: &ListState, period: Duration) -> bool {
        let wait = match self.failures {
            0 if self.has.as_ref() == Some(own) => period,
            0 => Duration::ZERO,
            failures => Duration::from_secs(1 << (failures - 1).min(8)).min(LONGEST),
        };
        !self.is_asked && self.tried.is_none_or(|tried| tried.elapsed() >= wait)
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
        let mut due: Vec<_> = peers.iter_mut().filter(|(_, peer)| peer.is_due(own, period)).collect();
        // Many that do not answer keep nobody waiting.
        due.sort_by_key(|(_, peer)| (peer.failures > 0, peer.tried));
        let asked = due.into_iter().take(free).map(|(host, peer)| {
            (peer.is_asked, peer.tried) = (true, Some(Instant::now()));
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
                None
            }
            Err(error) => {
                peer.failures += 1;
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
        (peer.has, peer.failures) = (has, 0);
        is_news
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

    /// Whether a message about a subject is to be logged: once a while.
    pub(crate) fn may_log(&self, subject: String) -> bool {
        let mut logged = lock(&self.logged);
        logged.retain(|_, at| at.elapsed() < LOG_EVERY);
        // A stranger can have many addresses.
        let may = logged.len() < SUBJECTS && !logged.contains_key(&subject);
        if may {
            logged.insert(subject, Instant::now());
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
    pub(crate) fn faults(&self) -> Vec<String> {
        lock(&self.faults).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_asked_at_once_then_later_and_later_and_never_twice_at_a_time() {
        let own = |generation| ListState { generation, digest: "0".to_owned() };
        let (peers, id) = (Peers::default(), "h2".parse::<HostId>().unwrap());
        let due = |own: &ListState| peers.due([&id].into_iter(), own, (1, Duration::from_secs(60))).len();
        assert_eq!((due(&own(1)), due(&own(1))), (1, 0), "it is being asked");
        assert_eq!(peers.answered(&id, Ok(Some(own(1)))), None);
        assert_eq!((due(&own(1)), due(&own(2))), (0, 1));
        assert_eq!(peers.answered(&id, Err("gone".to_owned())), Some("gone".to_owned()));
        assert_eq!(due(&own(2)), 0, "in a second");
        assert!(peers.told(&id, None), "it is there again");
        assert_eq!(due(&own(2)), 1);
        assert_eq!(peers.answered(&id, Err("gone".to_owned())), None, "not news");
        assert!(peers.all()[&id].heard.is_some(), "what was heard is kept");
        assert_eq!(peers.due([].into_iter(), &own(2), (1, Duration::ZERO)), []);
        assert!(peers.all().is_empty());
    }

    #[test]
    fn a_subject_is_logged_once_a_while_and_strangers_do_not_fill_the_memory() {
        let peers = Peers::default();
        assert!(peers.may_log("a".to_owned()) && !peers.may_log("a".to_owned()));
        let logged = (0..2 * SUBJECTS).filter(|n| peers.may_log(n.to_string())).count();
        assert_eq!(logged, SUBJECTS - 1);
    }
}
