// SPDX-License-Identifier: Apache-2.0
//! Hosts tell each other which addresses are on them, without a controller.
//!
//! Each host is the only authority for its own addresses, so there is nothing to agree on. It sends its whole list,
//! which is short, to every other host when it changes, and compares states with each now and then. What a host said
//! stays recorded while it is away.

mod contact;
mod file;
mod hear;
mod listen;
mod message;
mod own;
mod tls;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use ciao_common::serve::every::attempt;

use crate::Driver;
use contact::{Contact, LOOK_EVERY};
use file::HostsFile;
pub use message::{MOST_ENDPOINTS, Message};
pub use tls::Identity;

/// What an administrator sets of the exchange.
#[derive(Clone, Debug)]
pub struct ExchangeConfig {
    /// Where this host listens. The others have the same port.
    pub listen: SocketAddr,
    /// By which hosts recognize each other.
    pub identity: Identity,
    /// The file of hosts.
    pub hosts: PathBuf,
}

/// The exchange of this host, which ends when this is dropped.
pub struct Exchange {
    contact: Arc<Contact>,
    listen: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Exchange {
    /// Listens to other hosts and sends to them, from threads of its own. Files that are missing or not valid, and an
    /// address that this host does not have yet, are waited for.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(driver: Arc<Driver>, config: ExchangeConfig) -> Result<Self> {
        if let Err(error) = config.identity.check() {
            log::warn!("exchange: {error:#}; retried with each connection");
        }
        let listen = config.listen;
        let contact = Arc::new(Contact::new(driver, config.identity, listen.port()));
        let (listening, mut file) = (Arc::clone(&contact), HostsFile::new(config.hosts));
        let listener = thread::Builder::new()
            .name("listener".to_owned())
            .spawn(move || listening.listen(listen))
            .context("start the exchange's listener")?;
        let following = Arc::clone(&contact);
        let follower = thread::Builder::new()
            .name("follower".to_owned())
            .spawn(move || following.follow_others())
            .context("start the exchange's follower")?;
        let sending = Arc::clone(&contact);
        let sender = thread::Builder::new().name("exchange".to_owned()).spawn(move || {
            sending.follow(thread::current());
            while !sending.is_stopping() {
                if let Err(error) = attempt(|| sending.step(&mut file)) {
                    log::error!("exchange: {error:#}; next try in {LOOK_EVERY:?}");
                }
                thread::park_timeout(LOOK_EVERY);
            }
        });
        Ok(Self { contact, listen, threads: vec![listener, follower, sender.context("start the exchange's sender")?] })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.contact.stop();
        let loopback = if self.listen.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
        let address = if self.listen.ip().is_unspecified() { loopback } else { self.listen.ip() };
        // It ends the wait for a connection, if it waits for one.
        drop(TcpStream::connect_timeout(&SocketAddr::new(address, self.listen.port()), LOOK_EVERY));
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            drop(thread.join());
        }
    }
}
