// SPDX-License-Identifier: Apache-2.0
//! `ciao-net`: see [`ciao_netdriver::cli`].

use std::process::ExitCode;

use ciao_common::cli::exit::exit_code;
use ciao_common::cli::version::{parse, version};
use ciao_netdriver::cli::run;

fn main() -> ExitCode {
    let version = version(option_env!("CIAO_COMMIT"));
    exit_code("ciao-net", run(parse(version), version))
}
