// SPDX-License-Identifier: Apache-2.0
//! `CreateEndpoint` and `DeleteEndpoint` one call at a time, beside the kernel's time for the same links.

use std::time::Duration;

use anyhow::Result;
use ciao_tests::lab::Host;

use super::Size;
use super::cases::Setting;
use crate::calls;
use crate::floor::veth::Veths;
use crate::host;
use crate::http::{Call, Connection};
use crate::numbers::{Latencies, median_duration, time};
use crate::report::{Bar, Goal, Line, Section, Table};

/// So many in a row, before the links are deleted: deleting holds the kernel's lock, which making waits for.
const PAIRS: usize = 20;
const RAW: &str = "raw netlink";

pub(super) fn measure(
    host: &Host,
    setting: &Setting,
    size: Size,
    [commit, empty]: [Duration; 2],
    section: &mut Section,
) -> Result<()> {
    let veths = Veths::open(host::namespace(host)?)?;
    let mut connection = Connection::open(&host::net_socket(host), false)?;
    let links = host::count_links(host)?;
    let mut all: [Latencies; 4] = Default::default();
    let mut gone = Vec::new();
    for round in 0..size.rounds {
        let (made, deleted) = veths.run(PAIRS)?;
        let endpoints: Vec<_> = (0..PAIRS).map(|number| calls::id("alone", &[number, round])).collect();
        let created =
            endpoints.iter().enumerate().map(|(number, id)| setting.network.create_endpoint(id, 500 + number));
        let created = ask_all(&mut connection, created)?;
        let delete = |id: &String| setting.network.endpoint_call("/NetworkDriver.DeleteEndpoint", id);
        let forgotten = ask_all(&mut connection, endpoints.iter().map(delete))?;
        gone.push(host::wait_for_links(host, links)?);
        for (all, latencies) in all.iter_mut().zip([made, created, deleted, forgotten]) {
            *all = Latencies::merge([&*all, &latencies]);
        }
    }
    let named = [
        (RAW, "a veth pair on a bridge made"),
        ("ciao", "CreateEndpoint"),
        (RAW, "a veth pair deleted"),
        ("ciao", "DeleteEndpoint"),
    ];
    for ((by, what), all) in named.into_iter().zip(&all) {
        let [p50, p99] = [50, 99].map(|percent| all.percentile(percent));
        section.lines.push(Line { what: format!("{what}, {PAIRS} in a row"), by: by.to_owned(), p50, p99, cpu: None });
    }
    let [made, created, deleted, forgotten] = all.map(|all| all.percentile(50));
    let gone = median_duration(gone);
    let mut table = Table::new(["links, 20 in a row", "p50 of one"]);
    for (what, duration) in [
        ("raw netlink: make a veth pair on a bridge", made),
        ("CreateEndpoint", created),
        ("raw netlink: delete a veth pair", deleted),
        ("DeleteEndpoint", forgotten),
        ("after the last DeleteEndpoint, until all links are gone", gone),
    ] {
        table.row([what.to_owned(), time(duration)]);
    }
    section.tables.push(table);
    let ratio = |ours: Duration, floor: Duration| ours.as_secs_f64() / floor.as_secs_f64();
    let rest = format!(
        "of {}, the same links by raw netlink take {}, a raw commit {}, an empty call {}; {} remain for the choice of address and link, the rules' \
         elements, the check of the links and the threads between them",
        time(created),
        time(made),
        time(commit),
        time(empty),
        time(created.saturating_sub(made + commit + empty))
    );
    section.goals.push(Goal::at_most("CreateEndpoint, of raw netlink", 1.5, ratio(created, made), " ×").rest(rest));
    section.goals.push(Goal::at_most("DeleteEndpoint, of raw netlink", 1.0, ratio(forgotten, deleted), " ×"));
    section.bars.push(Bar { what: "CreateEndpoint".into(), baseline: "raw netlink", ratio: ratio(created, made) });
    section.bars.push(Bar { what: "DeleteEndpoint".into(), baseline: "raw netlink", ratio: ratio(forgotten, deleted) });
    Ok(())
}

fn ask_all(connection: &mut Connection, calls: impl Iterator<Item = Call>) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for call in calls {
        let begun = std::time::Instant::now();
        connection.ask::<serde_json::Value>(&call)?;
        latencies.add(begun.elapsed());
    }
    Ok(latencies)
}
