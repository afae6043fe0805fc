// SPDX-License-Identifier: Apache-2.0
//! `bench data`: what packets meet: container to container, container to outside, outside to a published port, on
//! ciao-net and on a user-defined bridge of Docker's.
//!
//! Namespaces of this machine only, so nothing but the kernel is on the way; a container's own loopback is the floor.

pub mod hosts;
mod sender;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use ciao_tests::lab::Host;
use ciao_tests::world::{Place, network, serve};

use crate::host;
use crate::numbers::{digits, median, median_duration, time};
use crate::report::{Bar, Goal, Section, Table};
use sender::Path;

/// What the far end listens on.
const PORT: u16 = 5201;
/// Fits an Ethernet frame.
const DATAGRAM: usize = 1400;
const HOST: &str = "203.0.113.1";
const OUTSIDE: &str = "203.0.113.2";
const THEIRS: &str = "user-defined bridge";
const OURS: &str = "ciao-net";

const TEXT: &str = "One TCP connection or one UDP socket at a time; sender and receiver are threads of one process on the same two \
cores, with sockets in the containers' namespaces. *Outside* is a namespace beyond the host's uplink, and the published \
port is asked for from there. A round trip is one byte there and back. Medians, and ratios of these medians.";
const REST: &str =
    "one veth pair and one NAT more than the bridge's way, for any number of tenants with the same addresses";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How often each case.
    pub rounds: usize,
    /// How long each time.
    pub time: Duration,
}

/// A network's two containers and the ways that lead to and from them.
struct Side {
    driver: &'static str,
    near: Place,
    far: Place,
    far_address: String,
    published: u16,
}

struct Case<'a> {
    driver: &'static str,
    what: &'static str,
    path: Path<'a>,
    streams: Vec<f64>,
    trips: Vec<Duration>,
    datagrams: Vec<f64>,
}

/// Measures in a new host.
///
/// # Errors
/// No host; packets do not arrive.
pub fn run(size: Size) -> Result<Section> {
    let host = host::with_docker("data")?;
    let outside = Place::internet(&host)?;
    host.sh("docker network create --subnet 10.81.0.0/16 theirs")?;
    network(&host, "ours", "bench", "--subnet 10.82.0.0/16")?;
    let sides =
        [Side::open(&host, THEIRS, "theirs", "10.81.0", 8081)?, Side::open(&host, OURS, "ours", "10.82.0", 8082)?];
    let mut cases = Vec::new();
    for what in ["container to container", "container to outside", "outside to a published port"] {
        for side in &sides {
            cases.push(Case::new(side.driver, what, side.path(what, &outside)?));
        }
    }
    let target = SocketAddr::new([127, 0, 0, 1].into(), PORT);
    let loopback = Path { from: &sides[0].near, to: &sides[0].near, port: PORT, target };
    cases.push(Case::new("", "loopback in a container", loopback));
    for round in 0..size.rounds {
        for turn in 0..cases.len() {
            let index = (turn + round) % cases.len();
            cases[index].measure(size.time)?;
        }
    }
    Ok(section(size, &cases))
}

impl Side {
    fn open(host: &Host, driver: &'static str, network: &str, prefix: &str, published: u16) -> Result<Self> {
        let near = serve(host, &format!("{network}-near"), &format!("--network {network} --ip {prefix}.10"))?;
        let publish = format!("-p {published}:{PORT} -p {published}:{PORT}/udp");
        let far = serve(host, &format!("{network}-far"), &format!("--network {network} --ip {prefix}.11 {publish}"))?;
        Ok(Self { driver, near, far, far_address: format!("{prefix}.11"), published })
    }

    fn path<'a>(&'a self, what: &str, outside: &'a Place) -> Result<Path<'a>> {
        let (from, to, target, port) = match what {
            "container to container" => (&self.near, &self.far, self.far_address.as_str(), PORT),
            "container to outside" => (&self.near, outside, OUTSIDE, PORT),
            _ => (outside, &self.far, HOST, self.published),
        };
        Ok(Path { from, to, port: PORT, target: SocketAddr::new(target.parse()?, port) })
    }
}

impl<'a> Case<'a> {
    fn new(driver: &'static str, what: &'static str, path: Path<'a>) -> Self {
        Self { driver, what, path, streams: Vec::new(), trips: Vec::new(), datagrams: Vec::new() }
    }

    fn measure(&mut self, time: Duration) -> Result<()> {
        let name = || format!("{}, {}", self.what, self.driver);
        self.streams.push(self.path.stream(time).with_context(name)?);
        self.trips.push(self.path.ping_pong(time).with_context(name)?.percentile(50));
        self.datagrams.push(self.path.datagrams(DATAGRAM, time).with_context(name)?);
        Ok(())
    }

    fn stream(&self) -> f64 {
        median(self.streams.iter().copied())
    }

    fn trip(&self) -> Duration {
        median_duration(self.trips.iter().copied())
    }

    fn datagram(&self) -> f64 {
        median(self.datagrams.iter().copied())
    }
}

fn section(size: Size, cases: &[Case<'_>]) -> Section {
    let text = format!("{TEXT} {} rounds of {}.", size.rounds, time(size.time));
    let mut section = Section { title: "Data path".into(), text, ..Section::default() };
    let mut table = Table::new(["way", "on", "TCP, Gbit/s", "TCP round trip, p50", "UDP, 1400 bytes, packets/s"]);
    for case in cases {
        let numbers = [digits(case.stream() * 8.0 / 1e9), time(case.trip()), digits(case.datagram())];
        table.row([case.what, case.driver].map(str::to_owned).into_iter().chain(numbers));
    }
    section.tables.push(table);
    for pair in cases.chunks_exact(2) {
        let [theirs, ours] = pair else { continue };
        let ratio = ours.stream() / theirs.stream();
        let what = format!("TCP {}", ours.what);
        let goal = Goal::at_least(format!("{what}, of a {THEIRS}"), 1.0, ratio, " ×");
        section.goals.push(goal.rest(rest(&ours.streams, &theirs.streams)));
        section.bars.push(Bar { what: format!("{what}, time a byte"), baseline: THEIRS, ratio: 1.0 / ratio });
        let ratio = ours.datagram() / theirs.datagram();
        let what = format!("UDP {}", ours.what);
        let goal = Goal::at_least(format!("{what}, of a {THEIRS}"), 0.85, ratio, " ×");
        section.goals.push(goal.rest(rest(&ours.datagrams, &theirs.datagrams)));
        section.bars.push(Bar { what: format!("{what}, time a datagram"), baseline: THEIRS, ratio: 1.0 / ratio });
        let ratio = ours.trip().as_secs_f64() / theirs.trip().as_secs_f64();
        section.bars.push(Bar { what: format!("{}, round trip", ours.what), baseline: THEIRS, ratio });
    }
    section
}

/// Why fewer, with how far the rounds are apart.
fn rest(ours: &[f64], theirs: &[f64]) -> String {
    let pairs = || ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
    let (least, most) = (pairs().fold(f64::MAX, f64::min), pairs().fold(0.0, f64::max));
    format!("{REST}; the rounds' pairs are from {} to {}", digits(least), digits(most))
}
