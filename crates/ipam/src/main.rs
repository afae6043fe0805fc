// SPDX-License-Identifier: Apache-2.0
//! `ciao-ipam`: see [`ciao_ipam::cli`].

use std::process::ExitCode;

use ciao_ipam::cli::{Cli, run};
use clap::Parser;

fn main() -> ExitCode {
    ciao_common::cli::exit::exit_code("ciao-ipam", run(Cli::parse()))
}
