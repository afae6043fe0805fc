// SPDX-License-Identifier: Apache-2.0
//! `churn`, random operations on a private Docker host while its daemons are killed and their calls fail: for as long
//! as one likes.

use std::process::ExitCode;

use anyhow::Result;
use ciao_tests::churn::{self, Plan};
use ciao_tests::lab::{Engine, Host};
use clap::Parser;

/// Does random docker commands, several at once, kills daemons and fails calls in their midst, and compares store,
/// kernel and Docker at rest
#[derive(Parser)]
#[command(after_help = "Example: churn --engine trixie --seed 7 --faults 200")]
struct Cli {
    /// The same seed draws the same operations and faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many faults
    #[arg(long, default_value_t = 100)]
    faults: usize,
    /// After how many faults the host comes to rest, ciao reconciles, and everything is compared
    #[arg(long, value_name = "FAULTS", default_value_t = 10)]
    rest_every: usize,
    /// How many commands run at once
    #[arg(long, default_value_t = 3)]
    workers: u64,
    /// Let dockerd ask the plugins directly: daemons are killed, but no single call fails
    #[arg(long)]
    direct: bool,
    /// Whose Docker Engine [default: $CIAO_ENGINE, or machine]
    #[arg(long)]
    engine: Option<Engine>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("churn: seed {}: {error:#}", cli.seed);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let engine = cli.engine.map_or_else(Engine::from_environment, Ok)?;
    let plan = Plan {
        seed: cli.seed,
        faults: cli.faults,
        rest_every: cli.rest_every,
        workers: cli.workers,
        wired: !cli.direct,
    };
    let tally = churn::run(Host::builder().name("churn").engine(engine), &plan)?;
    println!("engine {engine}, seed {}: no difference after {tally}", cli.seed);
    Ok(())
}
