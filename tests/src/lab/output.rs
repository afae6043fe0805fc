// SPDX-License-Identifier: Apache-2.0
//! [`Output`], the output of a command inside a host, as text. std's own holds bytes and an exit status that every test
//! would have to decode first.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use anyhow::{Result, bail};

/// Exit code and output of a command.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; 128 + N after signal N, as in a shell.
    pub code: i32,
    /// Standard output, without blanks at either end.
    pub stdout: String,
    /// Standard error, without blanks at either end.
    pub stderr: String,
}

impl Output {
    /// An exit status as a shell's `$?`.
    pub fn code_of(status: ExitStatus) -> i32 {
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
    }

    /// Standard output if the command succeeded, otherwise an error that holds both outputs. `command` is for
    /// the error's text.
    pub fn into_stdout(self, command: &str) -> Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        let printed = [self.stdout.as_str(), self.stderr.as_str()].join("\n");
        bail!("`{}` ended with {}: {}", command.trim(), self.code, printed.trim());
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: Self::code_of(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }
    }
}

/// The end of a log, for an error that quotes it.
pub(super) fn last_lines(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
