// SPDX-License-Identifier: Apache-2.0
//! A second copy of the host's filter, in a table that `nft flush ruleset` passes over.
//!
//! A table with the flag `owner` (Linux 5.12) is changed and removed by the netlink socket that made it and by nobody
//! else, and deleted when that socket is closed. Here that is an nft that waits for commands as long as this process
//! lives. The filter itself stays in a table without owner, which outlives the daemon; the copy covers the time between
//! a flush and the moment when that table is restored.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ciao_common::sync::lock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::kernel::element::{Change, Element};

/// Of the family inet.
pub(super) const TABLE: &str = "ciao_guard";
/// nft answers in milliseconds, unless something else changes rules now.
const PATIENCE: Duration = Duration::from_secs(3);
/// A listing of this table, which is never there, is refused: then all commands before it were read.
const END: &str = "list table inet ciao_guard_end";

/// The nft that owns the table, while there is one.
#[derive(Default)]
pub(in crate::kernel::linux) struct Guard(Mutex<Option<Owner>>);

impl Guard {
    /// Makes or replaces the copy, in the calling thread's namespace: chains and sets of `filter`, and `elements` of
    /// them.
    pub(super) fn load(&self, filter: &str, elements: &[Element]) -> Result<()> {
        let mut owner = lock(&self.0);
        if !owner.as_mut().is_some_and(Owner::lives) {
            *owner = Some(Owner::start()?);
        }
        let result = owner.as_mut().map_or(Ok(()), |owner| owner.run(&line(filter, elements)));
        if result.is_err() {
            // What it holds is unknown: the next call starts another nft.
            *owner = None;
        }
        result
    }

    /// Whether the copy exists.
    pub(super) fn stands(&self) -> bool {
        lock(&self.0).as_mut().is_some_and(Owner::lives)
    }

    /// Removes the copy.
    pub(super) fn remove(&self) {
        *lock(&self.0) = None;
    }
}

/// The table as one line, which is one transaction.
fn line(filter: &str, elements: &[Element]) -> String {
    let statements = filter.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut table = format!(
        "add table inet {TABLE} {{ flags owner; }}; delete table inet {TABLE}; table inet {TABLE} {{ flags owner; "
    );
    for statement in statements {
        // A block begins without a separator.
        let separator = if statement.ends_with('{') { " " } else { "; " };
        let _infallible = write!(table, "{statement}{separator}");
    }
    table.push('}');
    for element in elements {
        let _infallible = write!(table, "; {}", element.line_in(TABLE, Change::Add).trim_end());
    }
    table
}

/// A running nft.
struct Owner {
    child: Child,
    commands: ChildStdin,
    errors: BufReader<ChildStderr>,
}

impl Owner {
    fn start() -> Result<Self> {
        let mut command = Command::new("nft");
        command.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("run nft (Debian: apt install nftables)")?;
        let (commands, errors) = (child.stdin.take(), child.stderr.take());
        let (Some(commands), Some(errors)) = (commands, errors) else { bail!("run nft: no pipes to it") };
        Ok(Self { child, commands, errors: BufReader::new(errors) })
    }

    fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Runs one line.
    fn run(&mut self, line: &str) -> Result<()> {
        writeln!(self.commands, "{line}\n{END}").context("write to nft")?;
        let since = Instant::now();
        let mut errors = Vec::new();
        loop {
            let text = self.next_error(PATIENCE.saturating_sub(since.elapsed()))?;
            if text == END {
                // The last one is about that listing.
                errors.pop();
                return errors.first().map_or(Ok(()), |error| bail!("nft: {error}"));
            }
            if text.starts_with("Error: ") {
                errors.push(text);
            }
        }
    }

    fn next_error(&mut self, patience: Duration) -> Result<String> {
        if self.errors.buffer().is_empty() {
            let mut pipe = [PollFd::new(self.errors.get_ref().as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            if poll(&mut pipe, timeout).context("wait for nft")? == 0 {
                bail!("nft does not respond");
            }
        }
        let mut text = String::new();
        if self.errors.read_line(&mut text).context("read from nft")? == 0 {
            bail!("nft ended: it was built without an interactive mode");
        }
        Ok(text.trim_end().to_owned())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Nothing else can be done where it does not end; it ends with its input too.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_one_line() {
        let filter =
            "\t# what leads out\n\tset out { type ifname; }\n\tchain forward {\n\t\tpolicy accept;\n\t\tdrop\n\t}\n";
        let text = line(filter, &[]);
        assert!(
            text.ends_with("{ flags owner; set out { type ifname; }; chain forward { policy accept;; drop; }; }"),
            "{text}"
        );
        assert!(!text.contains('\n'));
    }
}
