//! `churn`, random operations on a private Docker host, with kills of its daemons in between: for as long as one likes,
//! and again the same with the same seed.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use ciao_tests::chance::Chance;
use ciao_tests::checker;
use ciao_tests::lab::{Engine, Host};
use clap::Parser;

/// Runs random docker commands and kills daemons on a private host, and compares store, kernel and Docker at rest
#[derive(Parser)]
#[command(after_help = "Example: churn --seed 7 --operations 500 --kill-every 5")]
struct Cli {
    /// The same seed gives the same operations
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many operations
    #[arg(long, default_value_t = 200)]
    operations: usize,
    /// After how many operations the host comes to rest, ciao reconciles, and everything is compared
    #[arg(long, value_name = "OPERATIONS", default_value_t = 20)]
    rest_every: usize,
    /// One operation of so many kills a daemon and starts it again; 0 for never
    #[arg(long, value_name = "OPERATIONS", default_value_t = 10)]
    kill_every: u64,
    /// How many networks there may be; every second one is without tenant
    #[arg(long, default_value_t = 4)]
    networks: u64,
    /// How many containers there may be
    #[arg(long, default_value_t = 8)]
    containers: u64,
    /// Whose Docker Engine [default: $CIAO_ENGINE, or machine]
    #[arg(long)]
    engine: Option<Engine>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("churn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let mut builder = Host::builder().name("churn");
    if let Some(engine) = cli.engine {
        builder = builder.engine(engine);
    }
    let host = builder.start()?;
    let mut chance = Chance::new(cli.seed);
    for number in 1..=cli.operations {
        operate(&host, cli, &mut chance, number)?;
        if number == cli.operations || number.checked_rem(cli.rest_every) == Some(0) {
            rest(&host, number)?;
        }
    }
    host.sh(
        "docker ps -aq | xargs -r docker rm -f; docker network ls -q --filter name=churn- | xargs -r docker network rm",
    )?;
    rest(&host, cli.operations)?;
    println!("seed {}: {} operations, no difference", cli.seed, cli.operations);
    Ok(())
}

/// One operation. Most may fail: a network that is there already, a container that is not.
fn operate(host: &Host, cli: &Cli, chance: &mut Chance, number: usize) -> Result<()> {
    if cli.kill_every > 0 && chance.below(cli.kill_every) == 0 {
        let daemons = [("ciao-net", host.ciao_net()), ("ciao-ipam", host.ciao_ipam()), ("dockerd", host.dockerd())];
        let (name, daemon) = daemons[chance.index(daemons.len())];
        println!("{number}: kill {name}");
        daemon.kill()?;
        daemon.start()?;
        return Ok(());
    }
    let (network, container) = (chance.below(cli.networks), chance.below(cli.containers));
    let tenant = if network % 2 == 0 { "-o tenant=red --ipam-opt tenant=red" } else { "" };
    let command = match chance.below(8) {
        0 | 1 => format!(
            "network create -d ciao-net --ipam-driver ciao-ipam --subnet 10.{network}.0.0/24 {tenant} churn-{network}"
        ),
        2 => format!("network rm churn-{network}"),
        3..=5 => format!("run -d --name c{container} --network churn-{network} busybox sleep 600"),
        6 => format!("rm -f c{container}"),
        _ => format!("restart -t 0 c{container}"),
    };
    let output = host.try_sh(&format!("docker {command}"))?;
    println!("{number}: {command}: {} {}", output.code, output.stderr.lines().next().unwrap_or_default());
    Ok(())
}

/// Nothing is under way: what faults left is repaired, and all agree.
fn rest(host: &Host, number: usize) -> Result<()> {
    let repaired = checker::repair(host)?;
    let differences = checker::differences(host)?;
    let repairs = repaired.lines().filter(|line| !line.is_empty()).count();
    println!("{number}: at rest, {repairs} repairs, {} differences", differences.len());
    ensure!(differences.is_empty(), "{differences:#?}\nreconcile said:\n{repaired}");
    Ok(())
}
