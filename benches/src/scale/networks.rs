// SPDX-License-Identifier: Apache-2.0
//! A host with many tenants: how long it takes to make them, and to bring them back after a reboot.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ciao_tests::lab::Host;
use serde_json::{Value, json};

use super::{Size, file_sizes};
use crate::calls::{self, Network};
use crate::floor::veth::Veths;
use crate::host;
use crate::http::{Call, Connection};
use crate::numbers::{self, Latencies, bytes, digits, median_duration, time};
use crate::process::Watch;
use crate::report::{Goal, Section, Table};

const NETWORKS: usize = 5;
const VNICS: usize = 2;
/// Endpoints made in a row to learn what one costs.
const ENDPOINTS: usize = 20;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a reboot leaves of the kernel's part: nothing. Namespaces go in the background.
const REBOOT: &str = "
    for space in $(ip netns list | cut -d' ' -f1); do ip netns delete $space; done
    nft list tables | grep ciao | while read -r line; do nft delete $line; done
    for i in $(seq 600); do [ $(ls /sys/class/net | grep -vcx -e lo -e docker0) = 0 ] && exit; sleep 0.1; done
    echo links are left >&2; exit 1
";

pub(super) fn measure(size: &Size, section: &mut Section) -> Result<()> {
    let host = host::without_docker("networks")?;
    let watch = |of: fn(&Host) -> Result<u32>| Ok::<_, anyhow::Error>(Watch::new(of(&host)?));
    let net = |host: &Host| host.ciao_net().pid();
    let few = Cost::measure(&host, 1, size.rounds)?;
    let made = make(&host, size.tenants).context("make networks")?;
    let full = Cost::measure(&host, 2, size.rounds)?;
    let links = host::count_links(&host)?;
    let loaded = watch(net)?.memory()?;
    let [file, log] = file_sizes(&host)?;

    host.ciao_net().stop()?;
    let again = Start::measure(&host)?;
    host.ciao_net().kill()?;
    host.sh(REBOOT).context("take all links away")?;
    let rebooted = Start::measure(&host)?;
    let memory = watch(net)?.memory()?;
    anyhow::ensure!(host::count_links(&host)? >= size.tenants * NETWORKS * VNICS, "not all links are back");

    let networks = size.tenants * NETWORKS;
    let vnics = networks * VNICS;
    let mut table = Table::new(["a host with many networks", ""]);
    for (what, count) in [("tenants", size.tenants), ("networks", networks), ("VNICs", vnics)] {
        table.row([what.to_owned(), numbers::count(count)]);
    }
    for (what, value) in [
        ("made one by one: networks", time(made.networks)),
        ("made one by one: VNICs", time(made.vnics)),
        ("links in the host's namespace", numbers::count(links)),
        ("ciao-net stopped and started, until it answers", time(again.answered)),
        ("until it has made a network of a new tenant", time(again.made)),
        ("until all is compared", time(again.settled)),
        ("ciao-net killed and all links, namespaces and rules gone, until it answers", time(rebooted.answered)),
        ("until it has made a network of a new tenant", time(rebooted.made)),
        ("until everything exists again", time(rebooted.settled)),
        ("ciao-net, RSS", bytes(loaded.resident)),
        ("ciao-net, RSS after the reboot", bytes(memory.resident)),
        ("ciao-net, RSS after the reboot, most", bytes(memory.peak)),
        ("ciao-ipam, RSS", bytes(watch(|host| host.ciao_ipam().pid())?.memory()?.resident)),
        ("database", bytes(file)),
        ("its write-ahead log", bytes(log)),
    ] {
        table.row([what.to_owned(), value]);
    }
    section.tables.push(table);
    let named = format!("with {} networks", numbers::count(networks));
    let rest = |cpu: [Duration; 3]| {
        let [code, kernel, tools] = cpu.map(time);
        format!(
            "processor time: {code} of ciao-net's code, {kernel} of the kernel's for it, {tools} of nft's and iptables'"
        )
    };
    for (what, most, took, cpu) in [
        ("networks made one by one", 3.0, made.networks, made.cpu),
        ("ciao-net stopped and started, until it answers", 0.3, again.answered, again.cpu),
        ("after a reboot, until it has made a network of a new tenant", 0.5, rebooted.made, rebooted.cpu),
        ("after a reboot, until everything exists again", 1.5, rebooted.settled, rebooted.cpu),
    ] {
        let goal = Goal::at_most(format!("{what}, {named}"), most, took.as_secs_f64(), " s");
        section.goals.push(goal.rest(rest(cpu)));
    }
    costs(&few, &full, section);
    Ok(())
}

fn costs(few: &Cost, full: &Cost, section: &mut Section) {
    let mut table = Table::new(["one of 20 in a row, p50", "links before", "CreateEndpoint", "raw netlink", "ratio"]);
    for cost in [few, full] {
        let durations = [cost.ours, cost.raw].map(time);
        let links = numbers::count(cost.links);
        let name = "on a network of 20 VNICs".to_owned();
        table.row([name, links].into_iter().chain(durations).chain([digits(cost.ratio())]));
    }
    section.tables.push(table);
    let what = format!("CreateEndpoint with {} links, of one with {}", numbers::count(full.links), few.links);
    let ratio = full.ours.as_secs_f64() / few.ours.as_secs_f64();
    let raw = format!("raw netlink, which makes the same links, takes {} and {}", time(few.raw), time(full.raw));
    section.goals.push(Goal::at_most(what, 1.1, ratio, " ×").rest(raw.clone()));
    let what = "the same, each of raw netlink beside it";
    section.goals.push(Goal::at_most(what, 1.1, full.ratio() / few.ratio(), " ×").rest(raw));
}

/// What an endpoint costs, ours and the kernel's own, with so many links on the host.
struct Cost {
    links: usize,
    ours: Duration,
    raw: Duration,
}

impl Cost {
    fn measure(host: &Host, number: u8, rounds: usize) -> Result<Self> {
        let mut connection = Connection::open(&host::net_socket(host), false)?;
        let network = Network::numbered("cost", number);
        network.create(&mut connection)?;
        let veths = Veths::open(host::namespace(host)?)?;
        let links = host::count_links(host)?;
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            raw.push(veths.run(ENDPOINTS)?.0.percentile(50));
            let mut latencies = Latencies::default();
            let ids: Vec<_> = (0..ENDPOINTS).map(|one| calls::id("cost", &[one, round, number.into()])).collect();
            for (one, id) in ids.iter().enumerate() {
                let call = network.create_endpoint(id, one);
                let begun = Instant::now();
                connection.ask::<Value>(&call)?;
                latencies.add(begun.elapsed());
            }
            ours.push(latencies.percentile(50));
            for id in &ids {
                connection.ask::<Value>(&network.endpoint_call("/NetworkDriver.DeleteEndpoint", id))?;
            }
            host::wait_for_links(host, links)?;
        }
        network.delete(&mut connection)?;
        Ok(Self { links, ours: median_duration(ours), raw: median_duration(raw) })
    }

    fn ratio(&self) -> f64 {
        self.ours.as_secs_f64() / self.raw.as_secs_f64().max(1e-9)
    }
}

struct Made {
    networks: Duration,
    vnics: Duration,
    cpu: [Duration; 3],
}

/// As Docker and a launcher do it, one call after the other.
fn make(host: &Host, tenants: usize) -> Result<Made> {
    let ipam = host::ipam_socket(host);
    let mut plugin = Connection::open(&host::net_socket(host), false)?;
    let control = host.path("/run/ciao/control.sock");
    let mut made = Made { networks: Duration::ZERO, vnics: Duration::ZERO, cpu: Default::default() };
    let watch = Watch::new(host.ciao_net().pid()?);
    let before = watch.cpu_apart()?;
    for tenant in 0..tenants {
        let name = format!("tenant-{tenant}");
        for number in 1..=NETWORKS {
            let subnet = format!("10.{number}.0.0/16");
            let network = Network {
                id: calls::id("scale", &[tenant, number]),
                tenant: name.clone(),
                gateway: format!("10.{number}.0.1/16"),
                subnet,
            };
            let begun = Instant::now();
            calls::request_pool(&ipam, &name, &network.subnet, &format!("10.{number}.0.1"))?;
            network.create(&mut plugin)?;
            made.networks += begun.elapsed();
            let begun = Instant::now();
            for vnic in 0..VNICS {
                let wanted = json!({"tenant": name, "instance": format!("instance-{number}-{vnic}"), "subnet": network.subnet,
                    "address": format!("10.{number}.0.{}", 2 + vnic), "mac": format!("02:00:0a:{number:02x}:00:{:02x}", 2 + vnic)});
                // The control socket closes a connection after each reply.
                let mut control = Connection::open(&control, true)?;
                control.ask::<Value>(&Call::new("/v1/vnics", &wanted)).context("make a VNIC")?;
            }
            made.vnics += begun.elapsed();
        }
    }
    let after = watch.cpu_apart()?;
    made.cpu = std::array::from_fn(|part| after[part].saturating_sub(before[part]));
    Ok(made)
}

/// How long a start takes.
struct Start {
    answered: Duration,
    made: Duration,
    settled: Duration,
    cpu: [Duration; 3],
}

impl Start {
    fn measure(host: &Host) -> Result<Self> {
        let begun = Instant::now();
        host.ciao_net().start_serving(PATIENCE)?;
        let mut connection = Connection::open(&host::net_socket(host), false)?;
        connection.ask::<Value>(&Call::bare("/NetworkDriver.GetCapabilities"))?;
        let answered = begun.elapsed();
        let network = Network::numbered("first", 3);
        network.create(&mut connection)?;
        let made = begun.elapsed();
        host.ciao_net().settle()?;
        let settled = begun.elapsed();
        let cpu = Watch::new(host.ciao_net().pid()?).cpu_apart()?;
        network.delete(&mut connection)?;
        Ok(Self { answered, made, settled, cpu })
    }
}
