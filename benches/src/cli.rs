// SPDX-License-Identifier: Apache-2.0
//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::{all, cni, data, docker, instructions, scale, service};

/// Measures ciao beside its floors and beside Docker's own drivers.
#[derive(Parser)]
#[command(name = "bench", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The daemons under load.
    Service {
        #[command(flatten)]
        size: Rounds<5, 700>,
        /// Only the cases with this word in their name; for a profiler.
        #[arg(long)]
        only: Option<String>,
    },
    /// Containers and networks, made and removed through Docker's API.
    Docker {
        /// How often each kind is measured.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
    },
    /// CNI's host-local and bridge beside ours.
    Cni {
        /// How often each call is measured.
        #[arg(long, default_value_t = 50)]
        rounds: usize,
    },
    /// Throughput and latency of containers.
    Data {
        #[command(flatten)]
        size: Rounds<5, 500>,
    },
    /// The same between two hosts, beside Docker's overlay network.
    Hosts {
        #[command(flatten)]
        size: Rounds<3, 500>,
    },
    /// A host with many networks, pools with many leases, and a file after much churn.
    Scale(scale::Size),
    /// Instructions of a lease, a Join and an endpoint, beside those recorded in the folder for this compiler.
    Instructions {
        /// Where instructions.tsv is.
        #[arg(long, default_value = "benches")]
        folder: PathBuf,
    },
    /// What is counted for that.
    #[command(hide = true)]
    Work { kind: String, rounds: usize },
    /// Everything, written into a folder as RESULTS.md and results.svg.
    All(All),
}

#[derive(Args)]
struct Rounds<const COUNT: usize, const MILLISECONDS: u64> {
    /// How often each case is measured.
    #[arg(long, default_value_t = COUNT)]
    rounds: usize,
    /// For how many milliseconds each time.
    #[arg(long, default_value_t = MILLISECONDS)]
    milliseconds: u64,
}

#[derive(Args)]
struct All {
    /// Where to write.
    #[arg(long, default_value = "benches")]
    folder: PathBuf,
    /// Fewer rounds and fewer leases: a few minutes.
    #[arg(long, conflicts_with = "quick")]
    short: bool,
    /// Everything once and small, to see that it works.
    #[arg(long)]
    quick: bool,
}

fn data_size(rounds: usize, milliseconds: u64) -> data::Size {
    data::Size { rounds, time: Duration::from_millis(milliseconds) }
}

/// Runs the command.
///
/// # Errors
/// A sentence for the user.
pub fn run(cli: Cli) -> Result<()> {
    let section = match cli.command {
        Command::Service { size, only } => {
            let size = service::Size { rounds: size.rounds, time: Duration::from_millis(size.milliseconds) };
            service::run(size, only.as_deref())?
        }
        Command::Docker { rounds } => docker::run(rounds)?,
        Command::Cni { rounds } => cni::run(rounds)?,
        Command::Data { size } => data::run(data_size(size.rounds, size.milliseconds))?,
        Command::Hosts { size } => data::hosts::run(data_size(size.rounds, size.milliseconds))?,
        Command::Scale(size) => scale::run(&size)?,
        Command::Instructions { folder } => instructions::run(&folder)?,
        Command::Work { kind, rounds } => return instructions::work(&kind, rounds),
        Command::All(All { folder, short, quick }) => {
            let size = match (short, quick) {
                (true, _) => all::Size::short(),
                (_, true) => all::Size::quick(),
                _ => all::Size::default(),
            };
            return all::run(&folder, &size);
        }
    };
    println!("{section}");
    Ok(())
}
