// SPDX-License-Identifier: Apache-2.0
//! The load generator: some clients that each send a call, wait for its reply, and send the next.
//!
//! All clients are in one thread, which waits for whichever connection has a reply: on two cores, a thread a client
//! would measure the scheduler.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::http::{Call, Connection};
use crate::numbers::Latencies;

/// What a client says, call after call. It repeats a cycle that leaves nothing behind.
pub trait Client {
    /// The next call.
    fn next(&mut self) -> Call;

    /// The body of its reply, a success.
    ///
    /// # Errors
    /// It is not what was expected.
    fn hear(&mut self, body: &[u8]) -> Result<()>;

    /// Whether a cycle is complete, so that the client may end here.
    fn rests(&self) -> bool {
        true
    }
}

/// Whether a connection is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// As the engine does.
    KeptAlive,
    /// One for each call.
    New,
}

/// When a run is over.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// After this time,
    pub time: Duration,
    /// or this many calls.
    pub calls: usize,
}

impl Limit {
    /// By time alone, within reason.
    #[must_use]
    pub fn time(time: Duration) -> Self {
        Self { time, calls: 10_000_000 }
    }
}

/// What a run measured.
#[derive(Debug)]
pub struct Run {
    /// How long it took.
    pub elapsed: Duration,
    /// How long each call took, by its path.
    pub latencies: BTreeMap<&'static str, Latencies>,
}

impl Run {
    /// How many calls were answered.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.latencies.values().map(Latencies::count).sum()
    }

    /// All calls together.
    #[must_use]
    pub fn all(&self) -> Latencies {
        Latencies::merge(self.latencies.values())
    }
}

struct Speaker<'a> {
    client: &'a mut dyn Client,
    connection: Connection,
    path: &'static str,
    asked: Instant,
}

/// A socket, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Load {
    /// The plugin socket.
    pub socket: PathBuf,
    /// Whether connections are kept.
    pub connections: Connections,
}

impl Load {
    /// On connections that are kept, as the engine does.
    #[must_use]
    pub fn kept_alive(socket: PathBuf) -> Self {
        Self { socket, connections: Connections::KeptAlive }
    }

    /// Lets the clients speak until the limit; each ends where its cycle is complete.
    ///
    /// # Errors
    /// A call fails.
    pub fn run(&self, clients: &mut [Box<dyn Client>], limit: Limit) -> Result<Run> {
        let mut latencies = BTreeMap::<_, Latencies>::new();
        let start = Instant::now();
        let mut speakers = Vec::new();
        for client in clients {
            speakers.push(self.first(client.as_mut())?);
        }
        let mut calls = 0;
        while !speakers.is_empty() {
            let ready = ready(&speakers)?;
            // From the last one, because one that ends is taken out.
            for index in ready.into_iter().rev() {
                let speaker = &mut speakers[index];
                let client = &mut *speaker.client;
                if speaker.connection.receive(|body| client.hear(body)).context(speaker.path)?.is_none() {
                    continue;
                }
                latencies.entry(speaker.path).or_default().add(speaker.asked.elapsed());
                calls += 1;
                let over = calls >= limit.calls || start.elapsed() >= limit.time;
                if over && speaker.client.rests() {
                    speakers.swap_remove(index);
                } else {
                    self.next(speaker)?;
                }
            }
        }
        Ok(Run { elapsed: start.elapsed(), latencies })
    }

    fn first<'a>(&self, client: &'a mut dyn Client) -> Result<Speaker<'a>> {
        let asked = Instant::now();
        let connection = self.connect()?;
        let mut speaker = Speaker { client, connection, path: "", asked };
        let call = speaker.client.next();
        speaker.path = call.path;
        speaker.connection.send(&call)?;
        Ok(speaker)
    }

    fn next(&self, speaker: &mut Speaker<'_>) -> Result<()> {
        let call = speaker.client.next();
        speaker.path = call.path;
        speaker.asked = Instant::now();
        if self.connections == Connections::New {
            speaker.connection = self.connect()?;
        }
        speaker.connection.send(&call)
    }

    fn connect(&self) -> Result<Connection> {
        Connection::open(&self.socket, self.connections == Connections::New)
    }
}

/// Which speakers have something to hear. One alone hears without being told first.
fn ready(speakers: &[Speaker<'_>]) -> Result<Vec<usize>> {
    if speakers.len() == 1 {
        return Ok(vec![0]);
    }
    let mut fds: Vec<_> =
        speakers.iter().map(|speaker| PollFd::new(speaker.connection.as_fd(), PollFlags::POLLIN)).collect();
    poll(&mut fds, PollTimeout::from(20_000_u16)).context("wait for replies")?;
    let ready: Vec<_> =
        fds.iter().enumerate().filter(|(_, fd)| fd.any() == Some(true)).map(|(index, _)| index).collect();
    anyhow::ensure!(!ready.is_empty(), "no reply within 20 s");
    Ok(ready)
}
