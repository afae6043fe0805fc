// SPDX-License-Identifier: Apache-2.0
//! CNI's `host-local` and `bridge`, which Kubernetes hosts use for the same jobs, beside ours in one run.
//!
//! A CNI plugin is a program that is started for every call; so its start is measured too, with a call that does
//! nothing. `host-local` keeps a file for each address and does not wait for the disk.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ciao_tests::lab::Host;
use serde_json::{Value, json};

use crate::calls::{self, Network};
use crate::host;
use crate::http::{Call, Connection};
use crate::numbers::{Latencies, digits, time};
use crate::report::{Bar, Line, Section, Table};

/// Where Debian's containernetworking-plugins are.
const FOLDER: &str = "/usr/lib/cni";

const TEXT: &str = "Debian's containernetworking-plugins in a host without Docker, one call after the other, in turn with \
ours. `bridge` gives the container's end its address and routes too, which for ours Docker does; ours is on the disk \
when it has answered.";

/// What is measured, and ours first.
const ROWS: [&str; 6] = [
    "RequestAddress",
    "host-local ADD",
    "ReleaseAddress",
    "host-local DEL",
    "RequestAddress + CreateEndpoint + Join",
    "bridge ADD, with host-local",
];

/// Measures in a new host.
///
/// # Errors
/// No host; the plugins are not installed; a call fails.
pub fn run(rounds: usize) -> Result<Section> {
    let host = host::without_docker("cni")?;
    let cni = Cni::new(&host)?;
    let ours = Ours::new(&host)?;
    let mut rows: [Latencies; 6] = Default::default();
    let mut start = Latencies::default();
    for round in 0..rounds {
        start.add(cni.call("host-local", "VERSION", round)?);
        let times = ours.round(round)?;
        let theirs = [
            cni.call("host-local", "ADD", round)?,
            cni.call("host-local", "DEL", round)?,
            cni.call("bridge", "ADD", round)?,
        ];
        cni.call("bridge", "DEL", round)?;
        for (index, (ours, theirs)) in times.into_iter().zip(theirs).enumerate() {
            rows[2 * index].add(ours);
            rows[2 * index + 1].add(theirs);
        }
    }
    Ok(report(&rows, &start))
}

fn report(rows: &[Latencies; 6], start: &Latencies) -> Section {
    let mut section = Section { title: "CNI".into(), text: TEXT.into(), ..Section::default() };
    let mut table = Table::new(["call", "p50", "ratio to CNI's"]);
    table.row(["a plugin's start (VERSION)".to_owned(), time(start.percentile(50)), String::new()]);
    for (names, pair) in ROWS.chunks(2).zip(rows.chunks(2)) {
        let medians = [pair[0].percentile(50), pair[1].percentile(50)];
        let ratio = medians[0].as_secs_f64() / medians[1].as_secs_f64();
        table.row([names[0].to_owned(), time(medians[0]), digits(ratio)]);
        table.row([names[1].to_owned(), time(medians[1]), digits(1.0)]);
        section.bars.push(Bar { what: names[0].to_owned(), baseline: names[1], ratio });
        for (by, latencies) in ["ciao", "CNI"].into_iter().zip(pair) {
            let what = format!("{} (CNI: {})", names[0], names[1]);
            let [p50, p99] = [50, 99].map(|percent| latencies.percentile(percent));
            section.lines.push(Line { what, by: by.to_owned(), p50, p99, cpu: None });
        }
    }
    section.tables.push(table);
    section
}

/// The plugins, started in the host's network namespace.
struct Cni {
    namespace: File,
    container: PathBuf,
    data: tempfile::TempDir,
}

impl Cni {
    fn new(host: &Host) -> Result<Self> {
        ensure!(
            Path::new(FOLDER).join("host-local").exists(),
            "{FOLDER}/host-local is not there: install Debian's containernetworking-plugins"
        );
        host.sh("ip netns add cni")?;
        let container = host.path("/run/netns/cni");
        Ok(Self { namespace: host::namespace(host)?, container, data: host::folder()? })
    }

    /// Runs a plugin; returns how long it took.
    fn call(&self, plugin: &str, command: &str, round: usize) -> Result<Duration> {
        let range = json!([[{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}]]);
        let ipam = json!({"type": "host-local", "ranges": range, "dataDir": self.data.path()});
        let config = json!({"cniVersion": "0.4.0", "name": "bench", "type": plugin, "bridge": "cni0", "ipam": ipam});
        host::inside(&self.namespace, || {
            let begun = Instant::now();
            let mut child = Command::new(Path::new(FOLDER).join(plugin))
                .env("CNI_COMMAND", command)
                .env("CNI_CONTAINERID", format!("container{round}"))
                .env("CNI_NETNS", &self.container)
                .env("CNI_IFNAME", "eth0")
                .env("CNI_PATH", FOLDER)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("start {plugin}"))?;
            let mut stdin = child.stdin.take().context("speak to a plugin")?;
            stdin.write_all(config.to_string().as_bytes()).context("speak to a plugin")?;
            drop(stdin);
            let output = child.wait_with_output()?;
            let took = begun.elapsed();
            ensure!(output.status.success(), "{plugin} {command}: {}", String::from_utf8_lossy(&output.stdout));
            Ok(took)
        })
    }
}

/// Our daemons, on connections that are kept.
struct Ours {
    ipam: PathBuf,
    net: PathBuf,
    pool: String,
    network: Network,
}

impl Ours {
    fn new(host: &Host) -> Result<Self> {
        let (ipam, net) = (host::ipam_socket(host), host::net_socket(host));
        let network = Network::numbered("cni", 9);
        let pool = calls::request_pool(&ipam, "cni", &network.subnet, "10.9.0.1")?;
        network.create(&mut Connection::open(&net, false)?)?;
        Ok(Self { ipam, net, pool, network })
    }

    /// How long an address, its release, and a container's link take.
    fn round(&self, round: usize) -> Result<[Duration; 3]> {
        let mut ipam = Connection::open(&self.ipam, false)?;
        let mut net = Connection::open(&self.net, false)?;
        let address = format!("10.9.{}.{}", 1 + round / 200, 2 + round % 200);
        let request = json!({"PoolID": self.pool, "Address": address, "Options": {}});
        let release = Call::new("/IpamDriver.ReleaseAddress", &json!({"PoolID": self.pool, "Address": address}));
        let request = Call::new("/IpamDriver.RequestAddress", &request);
        let endpoint = calls::id("cni", &[round]);
        let timed = |calls: &mut dyn FnMut() -> Result<()>| {
            let begun = Instant::now();
            calls().map(|()| begun.elapsed())
        };
        let requested = timed(&mut || ipam.ask::<Value>(&request).map(drop))?;
        let released = timed(&mut || ipam.ask::<Value>(&release).map(drop))?;
        let joined = timed(&mut || {
            ipam.ask::<Value>(&request)?;
            net.ask::<Value>(&self.network.create_endpoint(&endpoint, round))?;
            net.ask::<Value>(&self.network.endpoint_call("/NetworkDriver.Join", &endpoint)).map(drop)
        })?;
        net.ask::<Value>(&self.network.endpoint_call("/NetworkDriver.DeleteEndpoint", &endpoint))?;
        ipam.ask::<Value>(&release)?;
        Ok([requested, released, joined])
    }
}
