// SPDX-License-Identifier: Apache-2.0
//! `bench all`: every measurement, as one page and one picture.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::report::{Bar, Goal, Line, Section};
use crate::{cni, data, docker, instructions, picture, scale, service};

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Size {
    /// Of `bench service`.
    pub service: service::Size,
    /// Rounds of `bench docker`.
    pub docker: usize,
    /// Rounds of `bench cni`.
    pub cni: usize,
    /// Of `bench data`.
    pub data: data::Size,
    /// Of `bench scale`.
    pub scale: scale::Size,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            service: service::Size::default(),
            docker: 20,
            cni: 50,
            data: data::Size { rounds: 5, time: Duration::from_millis(500) },
            scale: scale::Size {
                tenants: 200,
                leases: 1_000_000,
                full: 65_520,
                churn: 1_000_000,
                rounds: 5,
                milliseconds: 400,
            },
        }
    }
}

impl Size {
    /// A few minutes' worth: fewer rounds and fewer leases, as many networks.
    #[must_use]
    pub fn short() -> Self {
        let time = Duration::from_millis(300);
        Self {
            service: service::Size { rounds: 2, time },
            docker: 7,
            cni: 20,
            data: data::Size { rounds: 2, time },
            scale: scale::Size { tenants: 200, leases: 8_000, full: 4_000, churn: 5_000, rounds: 3, milliseconds: 300 },
        }
    }

    /// So little that it only shows that everything works.
    #[must_use]
    pub fn quick() -> Self {
        let time = Duration::from_millis(30);
        Self {
            service: service::Size { rounds: 1, time },
            docker: 1,
            cni: 2,
            data: data::Size { rounds: 1, time },
            scale: scale::Size { tenants: 2, leases: 200, full: 100, churn: 500, rounds: 1, milliseconds: 30 },
        }
    }
}

/// Facts that the measurements led to, which a table of today's numbers does not show.
const TRIED: &str = "\
## What was tried

- Cached statements alone did not save SQLite's compiler: built with STAT4, it compiled them again. With
  `SQLITE_DBCONFIG_ENABLE_QPSG` they stay compiled.
- `opt-level = \"s\"` took the daemons' idle memory from 8.5 and 6.7 MB to 7.0 and 5.6 MB; SQLite without full-text search,
  R-trees and extensions took off 0.5 MB more.
- Elements of nftables' sets by a process of nft each: CreateEndpoint took 5.1 ms, by netlink 1 to 1.5 ms, and with links
  and record at the same time 0.9 ms.
- `Join` from records and netlink took 51 µs of processor time with 16 clients, from memory and a look at the link in sysfs
  14 to 16, and with that look done by `CreateEndpoint` and one by index left to `Join`, 7 to 8.
- Three indexes of `CreateEndpoint`'s tables fewer, or partial: no difference that could be measured.
- A thread that waits for each change of the store: 62 µs a lease with 16 clients; awaited without one, and without a
  savepoint for the first of a commit, 20.
- SQLite with `opt-level = 2` in place of `s`: no difference that could be measured.
- A dump of links that keeps their names only: for a host with 2,000 VNICs ciao-net took 48 MB before. Two arenas of
  malloc in place of sixteen saved nothing there, and took 28 µs of processor time a lease in place of 20.
- Flow tables of nftables could spare a tenant's established connections most of the way; this kernel has none.
";

/// Measures everything and writes `RESULTS.md` and `results.svg` into a folder.
///
/// # Errors
/// No host; a call fails; the folder cannot be written.
pub fn run(folder: &Path, size: &Size) -> Result<()> {
    let said = |what: &str| eprintln!("bench: {what}");
    said("service");
    let mut sections = vec![service::run(size.service, None)?];
    said("docker");
    sections.push(docker::run(size.docker)?);
    said("cni");
    sections.push(cni::run(size.cni)?);
    said("data");
    sections.push(data::run(size.data)?);
    said("scale");
    sections.push(scale::run(&size.scale)?);
    said("instructions");
    sections.push(instructions::run(folder)?);
    let bars: Vec<Bar> = sections.iter().flat_map(|section| section.bars.iter().cloned()).collect();
    picture::draw(&bars, &folder.join("results.svg"))?;
    let path = folder.join("RESULTS.md");
    fs::write(&path, page(&sections, size)?).with_context(|| format!("write {}", path.display()))
}

fn page(sections: &[Section], size: &Size) -> Result<String> {
    let mut page = String::from("# Results\n\nWritten by `make bench`. Ratios are of one run on one machine.\n\n");
    for (what, value) in machine()? {
        writeln!(page, "- {what}: {value}")?;
    }
    writeln!(
        page,
        "- rounds: service {}, Docker {}, CNI {}, data {}",
        size.service.rounds, size.docker, size.cni, size.data.rounds
    )?;
    let lines = Line::table(sections.iter().flat_map(|section| &section.lines));
    write!(page, "\n![ciao's times as parts of the baselines'](results.svg)\n\n{lines}\n## Goals\n\n")?;
    let goals: Vec<_> = sections.iter().flat_map(|section| &section.goals).collect();
    let met = goals.iter().filter(|goal| goal.is_met()).count();
    writeln!(page, "{met} of {} are met.\n\n{}", goals.len(), Goal::table(goals.iter().copied()))?;
    writeln!(page, "Where the time of the others goes, by the numbers of this run:\n\n{}", Goal::rests(goals))?;
    for section in sections {
        writeln!(page, "## {}\n\n{}", section.title, section.text)?;
        for table in &section.tables {
            write!(page, "\n{table}")?;
        }
        page.push('\n');
    }
    page.push_str(TRIED);
    Ok(page)
}

fn machine() -> Result<Vec<(&'static str, String)>> {
    let cpus = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's version")?;
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    let changed = if changed.is_empty() { "" } else { ", with changes" };
    Ok(vec![
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("processor", format!("{cores} × {}", model.unwrap_or("unknown"))),
        ("kernel", kernel.trim().to_owned()),
        ("Docker", said("dockerd", &["--version"])),
        ("Rust", said("rustc", &["--version"])),
        ("ciao", format!("{}{changed}", said("git", &["rev-parse", "--short", "HEAD"]))),
        ("busy", format!("{} (load averages at the end)", load_averages())),
    ])
}

fn load_averages() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What a program says; its absence is no reason to lose the results.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(ciao_tests::lab::workspace()).output();
    output.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
