// SPDX-License-Identifier: Apache-2.0
//! Connections of the exchange: one for each question, so every one of them checks the other's certificate.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, ensure};
use ciao_common::serve::every::attempt;
use ciao_common::store::{Absence, ClusterHost, ListState};
use ciao_common::sync::lock;

use super::file::HostsFile;
use super::message::{GENERATION_LIMIT, Message, plain, read_answer};
use super::own::{COMPARE_EVERY, OwnList, Published};
use super::tls::Identity;
use crate::Driver;
use crate::fabric::Cluster;
use crate::peers::{CERTIFICATE, LIST};

/// The longest time between looks at the file of hosts and at who is to be asked.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A certificate with less than this part of its time left was to be renewed: swarms do in the second half of it.
const RENEWED: u64 = 10;
/// Questions at a time, to all hosts.
const AT_A_TIME: usize = 64;

/// This host's side of all connections.
pub(super) struct Contact {
    pub(super) driver: Arc<Driver>,
    pub(super) identity: Identity,
    port: u16,
    pub(super) cluster: Mutex<Arc<Cluster>>,
    list: OwnList,
    stopping: AtomicBool,
    sender: OnceLock<Thread>,
    pub(super) follower: OnceLock<Thread>,
}

impl Contact {
    pub(super) fn new(driver: Arc<Driver>, identity: Identity, port: u16) -> Self {
        Self {
            list: OwnList::new(driver.store.clone()),
            driver,
            identity,
            port,
            cluster: Mutex::default(),
            stopping: AtomicBool::new(false),
            sender: OnceLock::new(),
            follower: OnceLock::new(),
        }
    }

    /// Wakes the sender whenever addresses on this host have changed.
    pub(super) fn follow(self: &Arc<Self>, sender: Thread) {
        drop(self.sender.set(sender));
        let contact = Arc::downgrade(self);
        self.driver.fabric.tunnels.follow(move || {
            if let Some(contact) = contact.upgrade() {
                contact.list.has_changed();
                contact.wake();
            }
        });
    }

    pub(super) fn wake(&self) {
        if let Some(sender) = self.sender.get() {
            sender.unpark();
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn fault(&self, what: &'static str, why: Option<String>) {
        if let Some(why) = self.driver.peers.set_fault(what, why) {
            log::error!("exchange: {why}");
        }
    }

    /// A certificate that nobody renews ends the exchange some day.
    fn check_certificate(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let fault = match self.identity.validity() {
            Ok((begin, end)) => {
                self.driver.peers.certificate_end.store(end, Ordering::Relaxed);
                let left = end.saturating_sub(now);
                let ends = if left == 0 { "has ended".to_owned() } else { format!("ends in {} days", left / 86_400) };
                (left < (end - begin) / RENEWED)
                    .then(|| format!("certificate {} {ends}: renew it", self.identity.cert.display()))
            }
            Err(error) => Some(format!("{error:#}")),
        };
        self.fault(CERTIFICATE, fault);
    }

    /// Reads the file of hosts, and sends this host's list to those that do not have it.
    pub(super) fn step(self: &Arc<Self>, file: &mut HostsFile) -> Result<()> {
        self.check_certificate();
        self.fault("file", file.follow(&self.driver).err().map(|error| format!("{error:#}")));
        let mut cluster = self.driver.fabric.tunnels.cluster()?;
        // Their certificates are valid for months.
        let gone = self.driver.store.read(|tx| tx.absent_hosts(Absence::Gone))?;
        cluster.others.retain(|host, _| !gone.contains_key(host));
        let cluster = Arc::new(cluster);
        *lock(&self.cluster) = Arc::clone(&cluster);
        let missing = cluster.own.is_none().then(|| "this host has no address of the list of hosts".to_owned());
        self.fault("own", missing);
        // Others would take the addresses of containers for gone.
        let lost = self.driver.fabric.lost.is_any();
        self.fault(
            "lost",
            lost.then(|| "records of running containers were lost: announcements are suspended".to_owned()),
        );
        let Some(own) = cluster.own.as_ref().filter(|_| !lost) else { return Ok(()) };
        let list = self.list.current(own);
        self.fault(LIST, list.as_ref().err().map(|error| format!("this host's list is not announced: {error:#}")));
        let Ok(published) = list else { return Ok(()) };
        let due = self.driver.peers.due(cluster.others.keys(), &published.state, (AT_A_TIME, COMPARE_EVERY));
        for (id, has) in due {
            if let Some(host) = cluster.others.get(&id) {
                self.send(Arc::clone(&published), host.clone(), has);
            }
        }
        Ok(())
    }

    /// Sends the list to a host, or only compares it, in the background.
    fn send(self: &Arc<Self>, list: Arc<Published>, to: ClusterHost, has: Option<ListState>) {
        let contact = Arc::clone(self);
        let id = to.id.clone();
        let spawned = thread::Builder::new().name("question".to_owned()).spawn(move || {
            let mut has = has;
            let asked = attempt(|| {
                has = contact.tell(&list, &to, has.as_ref() == Some(&list.state))?;
                Ok(())
            });
            let answer = asked.map(|()| has).map_err(|error| plain(&error));
            if let Some(error) = contact.driver.peers.answered(&to.id, answer)
                && contact.driver.peers.may_log("question", to.id.to_string())
            {
                log::warn!("exchange with {}: {error}; retried at least every 30 seconds", to.id);
            }
            if let Err(error) = contact.driver.note_silence(&to.id) {
                log::error!("exchange: {error:#}");
            }
            contact.wake_follower();
            contact.wake();
        });
        if let Err(error) = spawned {
            log::warn!("exchange: start a thread: {error}");
            self.driver.peers.answered(&id, Err("no thread can be started".to_owned()));
        }
    }

    /// Returns what the host has then.
    fn tell(&self, list: &Published, to: &ClusterHost, compare: bool) -> Result<Option<ListState>> {
        let yours = self.driver.store.read(|tx| tx.peer_state(&to.id))?;
        let endpoints = (!compare).then(|| list.endpoints.clone());
        let message = serde_json::to_vec(&Message { own: list.state.clone(), yours, endpoints })?;
        let at = SocketAddr::new(to.address, self.port);
        let answer = self.identity.ask(list.own.address, at, to.id.as_str(), &message)?;
        self.driver.peers.reached(&to.id);
        let has = read_answer(&to.id, &answer)?;
        if compare || has.as_ref() == Some(&list.state) {
            return Ok(has);
        }
        let has = has.ok_or_else(|| anyhow!("it has not recorded this host's list"))?;
        let (there, here) = (has.generation, list.state.generation);
        // Nobody's answer uses up what others accept.
        ensure!(there < GENERATION_LIMIT / 2, "it has generation {there} of this host's list, which is too high");
        if there >= here && !self.driver.fabric.lost.is_any() && self.driver.peers.may_raise(&to.id) {
            // The database was lost, and the clock was behind: only this host speaks for itself, so it goes on above.
            self.list.publish(&list.own, there)?;
        }
        Err(anyhow!("it has generation {there} of this host's list, and was sent {here}"))
    }
}
