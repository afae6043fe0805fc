// SPDX-License-Identifier: Apache-2.0
//! `ciao-ipam`: see [`ciao_ipam::cli`].

use std::process::ExitCode;

use ciao_common::cli::exit::exit_code;
use ciao_common::cli::version::{parse, version};
use ciao_ipam::cli::run;

fn main() -> ExitCode {
    let version = version(option_env!("CIAO_COMMIT"));
    exit_code("ciao-ipam", run(parse(version), version))
}
