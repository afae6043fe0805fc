// SPDX-License-Identifier: Apache-2.0
//! `ciao-manual FOLDER` writes the manual pages and completions: see [`ciao_package`].

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: ciao-manual FOLDER");
        return ExitCode::from(2);
    };
    if let Err(error) = ciao_package::write(&folder) {
        eprintln!("ciao-manual: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
