// SPDX-License-Identifier: Apache-2.0
//! What the faults share: the kinds of fault, the table that they print, and what is true of a host at rest.

use std::fmt::Write;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ciao_common::store::Store;
use ciao_tests::chance::Chance;
use ciao_tests::checker;
use ciao_tests::lab::{Daemon, Engine, Host};
use ciao_tests::proxy::{Call, Fault, Moment};

/// How late a reply is that is only late.
const LATE: Duration = Duration::from_millis(700);
/// A plugin is killed before it has been at a call for so long.
const KILLED_WITHIN: u64 = 10_000;
/// How often each call meets each kill, unless the environment says otherwise.
const ROUNDS: usize = 1;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    RequestLost,
    ReplyLost,
    ReplyCut,
    ReplyLate,
    CarriedOutTwice,
    Killed,
    KilledAtReply,
}

impl Way {
    /// As the table names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RequestLost => "request lost",
            Self::ReplyLost => "reply lost",
            Self::ReplyCut => "reply cut",
            Self::ReplyLate => "reply late",
            Self::CarriedOutTwice => "carried out twice",
            Self::Killed => "killed in the call",
            Self::KilledAtReply => "killed at the reply",
        }
    }

    /// Whether the plugin is dead afterwards.
    pub(crate) fn kills(self) -> bool {
        matches!(self, Self::Killed | Self::KilledAtReply)
    }

    /// How often it is tried: a kill meets another moment each time. `CIAO_ROUNDS` asks for more.
    pub(crate) fn rounds(self) -> usize {
        let asked = std::env::var("CIAO_ROUNDS").map(|rounds| rounds.parse().expect("CIAO_ROUNDS is a number"));
        if self == Self::Killed { asked.unwrap_or(ROUNDS) } else { 1 }
    }

    /// What the proxy is to do.
    pub(crate) fn fault(self, daemon: &Daemon, chance: &mut Chance) -> Fault {
        let killed = |at| Fault::Kill { pid: daemon.pid().unwrap().try_into().unwrap(), at };
        match self {
            Self::RequestLost => Fault::LoseRequest,
            Self::ReplyLost => Fault::LoseReply,
            Self::ReplyCut => Fault::CutReply,
            Self::ReplyLate => Fault::DelayReply(LATE),
            Self::CarriedOutTwice => Fault::Duplicate,
            Self::Killed => killed(Moment::AfterRequest(Duration::from_micros(chance.below(KILLED_WITHIN)))),
            Self::KilledAtReply => killed(Moment::AtReply),
        }
    }
}

/// What happened, a line a case, for a person: `| method | fault | … |`.
#[derive(Default)]
pub(crate) struct Table {
    lines: String,
    failed: usize,
}

/// One case of the table.
pub(crate) struct Case<'a> {
    pub(crate) method: &'a str,
    pub(crate) way: Way,
    /// The command, how it ended, and what dockerd saw of the call.
    pub(crate) docker: String,
    /// The output of reconcile.
    pub(crate) repaired: String,
    /// What store, kernel and Docker do not agree about afterwards.
    pub(crate) differences: Vec<String>,
    /// What went wrong with the same command once more, where the first one had failed.
    pub(crate) next: Option<Result<(), String>>,
}

/// One table at a time.
static PRINTING: Mutex<()> = Mutex::new(());

impl Table {
    pub(crate) fn add(&mut self, case: Case<'_>) {
        let next = match &case.next {
            None => "not needed",
            Some(Ok(())) => "works",
            Some(Err(why)) => why,
        };
        let repaired = match case.repaired.trim() {
            "" => "nothing to repair".to_owned(),
            printed => printed
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
                .join("; "),
        };
        self.failed += usize::from(!case.differences.is_empty() || matches!(case.next, Some(Err(_))));
        let (method, way, docker) = (case.method, case.way.name(), case.docker);
        let (count, which) = (case.differences.len(), case.differences.join("; "));
        writeln!(self.lines, "| {method} | {way} | {docker} | {repaired} | {count} {which} | {next} |").unwrap();
    }

    /// Prints the table; an error of any case fails the test.
    pub(crate) fn finish(self, name: &str) {
        let _printing = PRINTING.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = Engine::from_environment().unwrap();
        let cases = self.lines.lines().count();
        println!("\n{name}, engine {engine}: {cases} cases, {} failed\n", self.failed);
        println!("| method | fault | Docker | reconcile | differences | the command once more |");
        println!("| --- | --- | --- | --- | --- | --- |\n{}", self.lines);
        assert_eq!(self.failed, 0, "{}", self.lines);
    }
}

/// What dockerd saw of a method's calls: statuses, and `-` where no reply came.
pub(crate) fn seen(calls: &[Call], method: &str) -> String {
    let calls = calls.iter().filter(|call| call.method == method);
    let status = |call: &Call| call.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    calls.map(status).collect::<Vec<_>>().join(" ")
}

/// What a fault left is repaired, to the last row.
pub(crate) fn assert_repaired(host: &Host, what: &str) {
    let printed = checker::repair(host).unwrap();
    let differences = checker::differences(host).unwrap();
    assert!(differences.is_empty(), "{what}: {differences:#?}\nreconcile printed:\n{printed}");
    check_addresses(host);
}

/// ciao's own check of its ranges of addresses, on a copy: SQLite reads a path through `/proc` as one of this machine.
pub(crate) fn check_addresses(host: &Host) {
    host.sh("sqlite3 /var/lib/ciao/ciao.db '.timeout 5000' '.backup /run/copy.db'").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("ciao.db");
    fs::copy(host.path("/run/copy.db"), &copy).unwrap();
    Store::open_reading(&copy).unwrap().read(|tx| tx.check_addresses()).unwrap();
}
