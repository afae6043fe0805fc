// SPDX-License-Identifier: Apache-2.0
//! Hosts that are no daemons: many of them in one process, each with an address, a certificate and a list of its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ciao_common::store::{HostEndpoint, ListState, list_of_endpoints};
use ciao_netdriver::exchange::{Identity, Message};
use serde_json::json;

/// Addresses of each host.
pub(crate) const ADDRESSES: usize = 30;
/// The network of all of them.
pub(crate) const NETWORK: (&str, &str, u32) = ("big", "10.64.0.0/12", 900);

/// One of the hosts.
struct Peer {
    name: String,
    address: IpAddr,
    identity: Identity,
    /// What it has of the daemon's list.
    has: Mutex<(Option<ListState>, BTreeSet<IpAddr>)>,
}

/// The hosts, which answer until this is dropped.
pub(crate) struct Scripted {
    peers: Arc<Vec<Peer>>,
    port: u16,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The address of a host's instance.
pub(crate) fn instance(host: usize, n: usize) -> IpAddr {
    let number = u32::try_from(host * ADDRESSES + n + 2).unwrap();
    IpAddr::V4((0x0a40_0000 + number).into())
}

fn endpoints(host: usize, numbers: impl Iterator<Item = usize>) -> BTreeSet<HostEndpoint> {
    let (tenant, subnet, vni) = NETWORK;
    let of = |n| {
        let address = instance(host, n);
        let IpAddr::V4(v4) = address else { unreachable!() };
        let [_, b, c, d] = v4.octets();
        let mac = format!("02:00:0a:{b:02x}:{c:02x}:{d:02x}");
        (tenant.parse().unwrap(), address, mac.parse().unwrap(), subnet.parse().unwrap(), vni)
    };
    numbers.map(of).collect()
}

impl Scripted {
    /// Hosts with those names and addresses, which know the daemon as `h1`.
    pub(crate) fn start(hosts: Vec<(String, IpAddr, Identity)>, port: u16) -> Self {
        let peer = |(name, address, identity)| Peer { name, address, identity, has: Mutex::default() };
        let peers: Arc<Vec<_>> = Arc::new(hosts.into_iter().map(peer).collect());
        let stopping = Arc::new(AtomicBool::new(false));
        let listen = |n: usize| {
            let (peers, stopping) = (Arc::clone(&peers), Arc::clone(&stopping));
            let listener = TcpListener::bind((peers[n].address, port)).unwrap();
            let thread = thread::Builder::new().stack_size(512 << 10).spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    if stopping.load(Ordering::Acquire) {
                        return;
                    }
                    drop(peers[n].identity.answer(stream, "h1", |question| Ok(peers[n].hear(question))));
                }
            });
            thread.unwrap()
        };
        let threads = (0..peers.len()).map(listen).collect();
        Self { peers, port, stopping, threads }
    }

    /// The lines of a file of hosts.
    pub(crate) fn lines(&self) -> String {
        self.peers.iter().map(|peer| format!("{} {}\n", peer.name, peer.address)).collect()
    }

    /// Each host sends its list to the daemon, many of them at a time; tried again as hosts do.
    pub(crate) fn tell_all(&self, daemon: IpAddr, generation: u64) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..self.peers.len().min(128) {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::AcqRel);
                        if n >= self.peers.len() {
                            return;
                        }
                        self.tell(n, daemon, generation, 0..ADDRESSES);
                    }
                });
            }
        });
    }

    /// A host sends a list to the daemon until it has it.
    pub(crate) fn tell(&self, n: usize, daemon: IpAddr, generation: u64, numbers: impl Iterator<Item = usize>) {
        let (peer, list) = (&self.peers[n], endpoints(n, numbers));
        let own = list_of_endpoints(generation, &list);
        let since = Instant::now();
        loop {
            let yours = peer.has.lock().unwrap().0.clone();
            let message = Message { own: own.clone(), yours, endpoints: Some(list.clone()) };
            let message = serde_json::to_vec(&message).unwrap();
            let at = SocketAddr::new(daemon, self.port);
            match peer.identity.ask(peer.address, at, "h1", &message) {
                Ok(answer) => {
                    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
                    assert_eq!(answer["has"]["digest"], json!(own.digest), "{answer}");
                    return;
                }
                Err(error) => assert!(since.elapsed() < Duration::from_secs(120), "{}: {error:#}", peer.name),
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many hosts have an address of the daemon's.
    pub(crate) fn having(&self, address: IpAddr) -> usize {
        self.peers.iter().filter(|peer| peer.has.lock().unwrap().1.contains(&address)).count()
    }
}

impl Peer {
    fn hear(&self, question: &[u8]) -> Vec<u8> {
        let message = Message::parse(question).unwrap();
        let mut has = self.has.lock().unwrap();
        if let Some(list) = message.endpoints {
            *has = (Some(message.own), list.into_iter().map(|(_, address, ..)| address).collect());
        }
        json!({ "has": has.0 }).to_string().into_bytes()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        for peer in self.peers.iter() {
            // It ends the wait for a connection.
            drop(TcpStream::connect((peer.address, self.port)));
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}
