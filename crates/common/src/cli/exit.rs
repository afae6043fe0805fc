// SPDX-License-Identifier: Apache-2.0
//! Exit codes of commands.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;

/// The exit code of a command. An error is printed to stderr as `program: cause: cause`, with exit code 1.
pub fn exit_code(program: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done when stderr is closed.
            drop(writeln!(std::io::stderr(), "{program}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
