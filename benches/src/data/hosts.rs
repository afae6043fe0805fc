// SPDX-License-Identifier: Apache-2.0
//! `bench hosts`: two containers on two hosts, over ciao-net's tunnel and over Docker's overlay network, and the hosts
//! themselves without either.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ciao_tests::lab::{Host, Lan};
use ciao_tests::world::{Place, serve, soon};
use serde_json::json;

use super::sender::Path;
use super::{PORT, Size};
use crate::host;
use crate::numbers::{digits, median, median_duration, time};
use crate::report::{Bar, Goal, Section, Table};

const COUNT: usize = 3;
const THEIRS: &str = "Docker's overlay network";
/// Bytes of a datagram, small ones and some that fit the MTU of both.
const DATAGRAMS: [usize; 2] = [64, 1400];

const TEXT: &str = "Three private Docker hosts on a bridge, in one swarm, on which both networks are at once; the same way of \
sending as on the data path. ciao-net's packets pass its checks of who may send what; Docker's network is not encrypted, \
and neither is ciao's. Medians.";

/// Both ends on one network, and what was measured.
struct Case {
    on: &'static str,
    ends: [Place; 2],
    target: SocketAddr,
    streams: Vec<f64>,
    trips: Vec<Duration>,
    datagrams: [Vec<f64>; 2],
}

/// Measures between new hosts.
///
/// # Errors
/// No host; packets do not arrive.
pub fn run(size: Size) -> Result<Section> {
    let lan = Lan::new()?;
    let hosts = (1..=COUNT).map(|n| host::with_docker(&format!("h{n}"))).collect::<Result<Vec<_>>>()?;
    for (n, host) in (1..).zip(&hosts) {
        lan.join(host, &format!("192.0.2.{n}/24"))?;
    }
    let mut cases = [bare(&hosts)?, overlay(&hosts)?, ciao(&hosts)?];
    for round in 0..size.rounds {
        for turn in 0..cases.len() {
            let index = (turn + round) % cases.len();
            cases[index].measure(size.time)?;
        }
    }
    Ok(section(size, &cases))
}

/// The hosts themselves.
fn bare(hosts: &[Host]) -> Result<Case> {
    Case::new("no network", [Place::host(&hosts[0])?, Place::host(&hosts[1])?], "192.0.2.2")
}

fn overlay(hosts: &[Host]) -> Result<Case> {
    hosts[0].sh("docker swarm init --advertise-addr 192.0.2.1")?;
    let token = hosts[0].sh("docker swarm join-token -q worker")?;
    for (n, host) in (1..).zip(hosts).skip(1) {
        host.sh(&format!("docker swarm join --advertise-addr 192.0.2.{n} --token {token} 192.0.2.1:2377"))?;
    }
    hosts[0].sh("docker network create -d overlay --attachable --subnet 10.83.0.0/24 theirs")?;
    Case::containers(THEIRS, hosts, "theirs", ["10.83.0.10", "10.83.0.11"])
}

/// A network of ciao's on each host, and the lists that a controller gives.
fn ciao(hosts: &[Host]) -> Result<Case> {
    let create = "docker network create -d ciao-net --ipam-driver ciao-ipam -o tenant=bench -o vni=101 \
                  --ipam-opt tenant=bench --subnet 10.84.0.0/24 ours";
    let listed: Vec<_> =
        (1..=hosts.len()).map(|n| json!({ "id": format!("h{n}"), "address": format!("192.0.2.{n}") })).collect();
    let put = |path: &str, body: serde_json::Value| {
        let curl = "curl -sf --unix-socket /run/ciao/control.sock -X PUT";
        hosts.iter().try_for_each(|host| host.sh(&format!("{curl} http://ciao{path} -d '{body}'")).map(drop))
    };
    put("/v1/hosts", json!({ "generation": 1, "hosts": listed }))?;
    hosts.iter().try_for_each(|host| host.sh(create).map(drop))?;
    let addresses = ["10.84.0.10", "10.84.0.11"];
    let case = Case::containers("ciao-net", hosts, "ours", addresses)?;
    let mac = |host: &Host| host.docker(&["exec", "ours", "cat", "/sys/class/net/eth0/address"]);
    let remotes = json!([[addresses[0], mac(&hosts[0])?, "h1"], [addresses[1], mac(&hosts[1])?, "h2"]]);
    put("/v1/tenants/bench/remotes", json!({ "generation": 1, "remotes": remotes }))?;
    Ok(case)
}

impl Case {
    fn new(on: &'static str, ends: [Place; 2], target: &str) -> Result<Self> {
        let target = SocketAddr::new(target.parse()?, PORT);
        Ok(Self { on, ends, target, streams: Vec::new(), trips: Vec::new(), datagrams: Default::default() })
    }

    /// A container on each of the first two hosts.
    fn containers(on: &'static str, hosts: &[Host], network: &str, addresses: [&str; 2]) -> Result<Self> {
        let open = |n: usize| serve(&hosts[n], network, &format!("--network {network} --ip {}", addresses[n]));
        Self::new(on, [open(0)?, open(1)?], addresses[1])
    }

    fn measure(&mut self, time: Duration) -> Result<()> {
        let Self { on, ends: [from, to], target, .. } = &*self;
        let path = Path { from, to, port: PORT, target: *target };
        // Docker's hosts tell each other in the background where a container is.
        ensure!(soon(|| from.pings(&target.ip().to_string())), "{on}: {target} is not reached");
        let (stream, trip) = (path.stream(time).context(*on)?, path.ping_pong(time).context(*on)?.percentile(50));
        let [small, large] = DATAGRAMS.map(|bytes| path.datagrams(bytes, time).context(*on));
        self.streams.push(stream);
        self.trips.push(trip);
        self.datagrams[0].push(small?);
        self.datagrams[1].push(large?);
        Ok(())
    }

    fn trip(&self) -> Duration {
        median_duration(self.trips.iter().copied())
    }
}

fn section(size: Size, cases: &[Case; 3]) -> Section {
    let text = format!("{TEXT} {} rounds of {}.", size.rounds, time(size.time));
    let mut section = Section { title: "Between hosts".into(), text, ..Section::default() };
    let mut table = Table::new([
        "on",
        "TCP, Gbit/s",
        "TCP round trip, p50",
        "UDP, 64 bytes, packets/s",
        "UDP, 1400 bytes, packets/s",
    ]);
    for case in cases {
        let middle = |figures: &Vec<f64>| median(figures.iter().copied());
        let [small, large] = case.datagrams.each_ref().map(|figures| digits(middle(figures)));
        let stream = digits(middle(&case.streams) * 8.0 / 1e9);
        table.row([case.on.to_owned(), stream, time(case.trip()), small, large]);
    }
    section.tables.push(table);
    let [_, theirs, ours] = cases;
    let mut compare = |what: &str, least: f64, ours: &[f64], theirs: &[f64]| {
        // Of each round's pair, as the two were measured a moment apart.
        let ratio = median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs));
        section.goals.push(Goal::at_least(format!("{what} between hosts, of {THEIRS}"), least, ratio, " ×"));
        section.bars.push(Bar { what: format!("{what} between hosts, time"), baseline: THEIRS, ratio: 1.0 / ratio });
    };
    compare("TCP", 1.0, &ours.streams, &theirs.streams);
    compare("UDP, 64 bytes,", 0.85, &ours.datagrams[0], &theirs.datagrams[0]);
    compare("UDP, 1400 bytes,", 0.85, &ours.datagrams[1], &theirs.datagrams[1]);
    let ratio = ours.trip().as_secs_f64() / theirs.trip().as_secs_f64();
    section.bars.push(Bar { what: "round trip between hosts".to_owned(), baseline: THEIRS, ratio });
    section
}
