// SPDX-License-Identifier: Apache-2.0
//! Connections of other hosts: answered, and what they say brought into the kernel behind the answers.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use ciao_common::serve::every::attempt;
use ciao_common::sync::lock;
use ciao_common::types::HostId;

use super::contact::{Contact, LOOK_EVERY};

/// Questions of one host at a time.
const OF_A_HOST: usize = 4;

impl Contact {
    /// Answers connections until the exchange stops.
    pub(super) fn listen(self: &Arc<Self>, at: SocketAddr) {
        while !self.is_stopping() {
            let listener = match TcpListener::bind(at) {
                Ok(listener) => listener,
                Err(error) => {
                    self.fault("listener", Some(format!("listen on {at}: {error}")));
                    thread::park_timeout(LOOK_EVERY);
                    continue;
                }
            };
            self.fault("listener", None);
            while !self.is_stopping() {
                match listener.accept().map_err(Into::into).and_then(|(stream, from)| self.accept(stream, from)) {
                    Ok(()) => {}
                    Err(error) => {
                        log::warn!("exchange: accept a connection: {error:#}");
                        thread::park_timeout(LOOK_EVERY);
                    }
                }
            }
        }
    }

    /// Answers a connection in the background, or closes it: only hosts of the list are answered.
    fn accept(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) -> Result<()> {
        let (driver, address) = (&self.driver, from.ip().to_canonical());
        if self.is_stopping() {
            return Ok(());
        }
        let cluster = Arc::clone(&lock(&self.cluster));
        let Some(host) = cluster.others.values().find(|host| host.address == address) else {
            driver.peers.refuse("unlisted", 1);
            if driver.peers.may_log("unlisted", address.to_string()) {
                log::warn!("exchange: {address} is in no list of hosts, or left the swarm: refused");
            }
            return Ok(());
        };
        if !driver.peers.connect(address, OF_A_HOST) {
            driver.peers.disconnect(address);
            return Ok(());
        }
        let (contact, host) = (Arc::clone(self), host.id.clone());
        let spawned = thread::Builder::new().name("answer".to_owned()).spawn(move || {
            let answered =
                attempt(|| contact.identity.answer(stream, host.as_str(), |asked| contact.hear(&host, asked)));
            contact.driver.peers.disconnect(address);
            if let Err(error) = answered {
                contact.driver.peers.refuse("connection", 1);
                if contact.driver.peers.may_log("connection", host.to_string()) {
                    log::warn!("exchange: connection of {host} from {address}: {error:#}");
                }
            }
        });
        if spawned.is_err() {
            driver.peers.disconnect(address);
        }
        spawned.map(drop).context("start a thread")
    }

    fn hear(&self, host: &HostId, message: &[u8]) -> Result<Vec<u8>> {
        let (answer, is_news) = self.driver.hear(host, message)?;
        self.wake_follower();
        if is_news {
            self.wake();
        }
        Ok(answer)
    }

    /// Brings what other hosts say into the kernel, until the exchange stops.
    pub(super) fn follow_others(&self) {
        drop(self.follower.set(thread::current()));
        while !self.is_stopping() {
            let followed = attempt(|| {
                self.driver.follow_lists();
                Ok(())
            });
            if let Err(error) = followed {
                log::error!("exchange: {error:#}");
            }
            thread::park_timeout(LOOK_EVERY);
        }
    }

    /// What was recorded of other hosts may have changed.
    pub(super) fn wake_follower(&self) {
        if let Some(follower) = self.follower.get() {
            follower.unpark();
        }
    }
}
