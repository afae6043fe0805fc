//! The command line.

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::service;

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
        /// How often each case is measured.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// For how many milliseconds each time.
        #[arg(long, default_value_t = 700)]
        milliseconds: u64,
        /// Only the cases with this word in their name; for a profiler.
        #[arg(long)]
        only: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// A sentence for the user.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Service { rounds, milliseconds, only } => {
            let size = service::Size { rounds, time: Duration::from_millis(milliseconds) };
            println!("{}", service::run(size, only.as_deref())?);
        }
    }
    Ok(())
}
