// SPDX-License-Identifier: Apache-2.0
//! `lab`, a private Docker host at the command line: the demonstration runs in one, and a person looks around in one.

use std::env;
use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use anyhow::{Context, Result};
use ciao_tests::lab::{Engine, Host, Output};
use clap::{Args, Parser, Subcommand};

/// Opens a private Docker host on this machine, and closes it without a trace
#[derive(Parser)]
#[command(after_help = "Example: lab run --engine trixie -- docker run --rm busybox ip address")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command in a new host; its exit code is passed on
    Run {
        #[command(flatten)]
        options: Options,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Look around in a new host
    Shell {
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Args)]
struct Options {
    /// Whose Docker Engine; other suites than the machine's are downloaded once [default: $CIAO_ENGINE, or machine]
    #[arg(long)]
    engine: Option<Engine>,
    /// The hostname
    #[arg(long, default_value = "lab")]
    name: String,
    /// Leave dockerd out
    #[arg(long)]
    no_docker: bool,
    /// Leave ciao-net and ciao-ipam out
    #[arg(long)]
    no_ciao: bool,
}

fn main() -> ExitCode {
    run(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("lab: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.verb {
        Verb::Run { options, command } => attach(&open(options)?, &command),
        Verb::Shell { options } => {
            let host = open(options)?;
            eprintln!("lab: this host ends with the shell");
            attach(&host, &["bash"])
        }
    }
}

fn open(options: Options) -> Result<Host> {
    let mut builder = Host::builder().name(options.name).docker(!options.no_docker).ciao(!options.no_ciao);
    if let Some(engine) = options.engine {
        builder = builder.engine(engine);
    }
    builder.start()
}

/// Runs a command inside with our own terminal, in the same folder if the host has it.
fn attach<S: AsRef<OsStr>>(host: &Host, command: &[S]) -> Result<ExitCode> {
    let folder = env::current_dir().context("find the current folder")?;
    let in_folder = [OsStr::new("sh"), "-c".as_ref(), r#"cd "$0" 2>/dev/null; exec "$@""#.as_ref(), folder.as_os_str()];
    let status = host.command(in_folder.into_iter().chain(command.iter().map(AsRef::as_ref))).status()?;
    Ok(ExitCode::from(u8::try_from(Output::code_of(status)).unwrap_or(1)))
}
