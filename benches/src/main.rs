// SPDX-License-Identifier: Apache-2.0
//! `bench`: see [`ciao_bench::cli`].

use std::process::ExitCode;

use ciao_bench::cli::{Cli, run};
use clap::Parser;

fn main() -> ExitCode {
    ciao_common::cli::exit::exit_code("bench", run(Cli::parse()))
}
