// SPDX-License-Identifier: Apache-2.0
//! `ciao-net`: see [`ciao_netdriver::cli`].

use std::process::ExitCode;

use ciao_netdriver::cli::{Cli, run};
use clap::Parser;

fn main() -> ExitCode {
    ciao_common::cli::exit::exit_code("ciao-net", run(Cli::parse()))
}
