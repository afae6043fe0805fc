// SPDX-License-Identifier: Apache-2.0
//! How a command ends.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;

/// Runs `command`'s outcome as a program's: errors on stderr as `name: cause: cause`, exit code 1.
#[must_use]
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
