// SPDX-License-Identifier: Apache-2.0
//! Instructions of a call, counted by callgrind: the same however busy the machine is, so that a few percent more show.
//!
//! The handlers of both daemons run in one process, on a database on the disk and the double of the kernel; neither
//! HTTP nor the kernel's work is counted. The counts of each compiler are kept in `instructions.tsv`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::serve::server::{Handler, Request};
use ciao_common::store::Store;
use ciao_ipam::{Ipam, routes};
use ciao_netdriver::kernel::fake::Fake;
use ciao_netdriver::{Config, Driver, docker};
use ciao_tests::lab::built;
use serde_json::{Value, json};

use crate::calls::id;
use crate::numbers::count;
use crate::report::{Goal, Section, Table};

/// What is counted.
pub const KINDS: [&str; 3] = ["lease", "join", "endpoint"];
/// The rounds of the two runs whose difference is counted: a start is no part of a call.
const ROUNDS: [u64; 2] = [50, 450];
/// More than before by this much is a goal that is not met: counts differ by some 1 % from run to run.
const MORE: f64 = 1.05;
const FILE: &str = "instructions.tsv";

const TEXT: &str = "Of the daemons' handlers, by callgrind, without HTTP and without the kernel's part. *lease* is RequestAddress and \
ReleaseAddress, *endpoint* CreateEndpoint and DeleteEndpoint, on the double of the kernel.";

/// Counts, compares with what `folder` has for this compiler, and notes there what it has not.
///
/// # Errors
/// valgrind is missing or fails.
pub fn run(folder: &Path) -> Result<Section> {
    let compiler = Command::new("rustc").arg("--version").output().context("run rustc")?;
    let compiler = String::from_utf8(compiler.stdout)?.trim().to_owned();
    let path = folder.join(FILE);
    let mut known = read(&fs::read_to_string(&path).unwrap_or_default())?;
    let mut section = Section { title: "Instructions".into(), text: TEXT.into(), ..Section::default() };
    let mut table = Table::new(["instructions a round", "now", "recorded for this compiler"]);
    for kind in KINDS {
        let [few, many] = [counted(kind, ROUNDS[0])?, counted(kind, ROUNDS[1])?];
        let now = many.saturating_sub(few) / (ROUNDS[1] - ROUNDS[0]);
        let before = *known.entry((compiler.clone(), kind.to_owned())).or_insert(now);
        let cells = [now, before].map(|number| count(usize::try_from(number).unwrap_or(usize::MAX)));
        table.row([kind.to_owned()].into_iter().chain(cells));
        let ratio = now as f64 / before as f64;
        let goal = Goal::at_most(format!("{kind}, instructions, of those recorded"), MORE, ratio, " ×");
        section.goals.push(
            goal.rest(
                "valgrind --tool=callgrind target/release/bench work lease 450, and callgrind_annotate, show where",
            ),
        );
    }
    section.tables.push(table);
    let lines = known.iter().map(|((compiler, kind), count)| format!("{compiler}\t{kind}\t{count}\n"));
    fs::write(&path, lines.collect::<String>()).with_context(|| format!("write {}", path.display()))?;
    Ok(section)
}

fn read(text: &str) -> Result<BTreeMap<(String, String), u64>> {
    let line = |line: &str| {
        let [compiler, kind, count] = line.split('\t').collect::<Vec<_>>()[..] else {
            bail!("{FILE}: {line:?} is not COMPILER, KIND and COUNT")
        };
        Ok(((compiler.to_owned(), kind.to_owned()), count.parse()?))
    };
    text.lines().map(line).collect()
}

/// The instructions of the program `bench` that does so many rounds.
fn counted(kind: &str, rounds: u64) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(built("bench")?);
    let output = valgrind.args(["work", kind, &rounds.to_string()]).output();
    let output = output.context("run valgrind (Debian: apt install valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {said}");
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")).context("valgrind counted nothing")?;
    Ok(collected.1.trim().parse()?)
}

/// The rounds themselves.
///
/// # Errors
/// A handler refuses.
pub fn work(kind: &str, rounds: usize) -> Result<()> {
    let folder = crate::host::folder()?;
    let store = Arc::new(Store::open(&folder.path().join("ciao.db"))?);
    let ipam = routes::plugin(Ipam::new(Arc::clone(&store), ciao_ipam::Config::default())?);
    let driver = Arc::new(Driver::new(store, Arc::new(Fake::default()), Config::default())?);
    let net = docker::plugin(Arc::clone(&driver));
    let ask = |handler: &dyn Handler, path: &str, body: &Value| -> Result<Value> {
        let body = body.to_string();
        let reply = handler.handle(Request { method: "POST", path, query: "", body: body.as_bytes() });
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        ensure!(reply.status == 200, "{path}: {text}");
        Ok(serde_json::from_str(&text)?)
    };
    let pool = json!({ "AddressSpace": "local", "Pool": "10.7.0.0/16", "Options": { "tenant": "bench" } });
    let pool = ask(&ipam, "/IpamDriver.RequestPool", &pool)?["PoolID"].clone();
    let network = id("instructions", &[0]);
    let data = json!([{ "AddressSpace": "local", "Pool": "10.7.0.0/16", "Gateway": "10.7.0.1/16" }]);
    let options = json!({ "com.docker.network.generic": { "tenant": "bench" } });
    let create = json!({ "NetworkID": network, "Options": options, "IPv4Data": data, "IPv6Data": [] });
    ask(&net, "/NetworkDriver.CreateNetwork", &create)?;
    let endpoint = |number: usize| {
        let address = format!("10.7.{}.{}/16", 1 + number / 200, 2 + number % 200);
        let ids = json!({ "NetworkID": network, "EndpointID": id("endpoint", &[number]) });
        let mut create = ids.clone();
        create["Interface"] = json!({ "Address": address, "AddressIPv6": "", "MacAddress": "" });
        (ids, create)
    };
    let (mut joined, create) = endpoint(0);
    ask(&net, "/NetworkDriver.CreateEndpoint", &create)?;
    joined["SandboxKey"] = json!("/var/run/docker/netns/0123456789ab");
    for number in 1..=rounds {
        match kind {
            "lease" => {
                let request = json!({ "PoolID": pool, "Address": "", "Options": {} });
                let reply = ask(&ipam, "/IpamDriver.RequestAddress", &request)?;
                let address = reply["Address"].as_str().and_then(|cidr| cidr.split('/').next());
                ask(&ipam, "/IpamDriver.ReleaseAddress", &json!({ "PoolID": pool, "Address": address }))?;
            }
            "join" => drop(ask(&net, "/NetworkDriver.Join", &joined)?),
            "endpoint" => {
                let (ids, create) = endpoint(number);
                ask(&net, "/NetworkDriver.CreateEndpoint", &create)?;
                ask(&net, "/NetworkDriver.DeleteEndpoint", &ids)?;
                driver.wait_for_tasks();
            }
            _ => bail!("unknown work {kind:?}: give one of {KINDS:?}"),
        }
    }
    Ok(())
}
