// SPDX-License-Identifier: Apache-2.0
//! The command line.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ciao_common::cli::client::Client;
use ciao_common::cli::events::{Column, EventOptions};
use ciao_common::cli::table;
use ciao_common::cli::table::{Database, List};
use ciao_common::serve::calls::Calls;
use ciao_common::serve::daemon;
use ciao_common::serve::every::every;
use ciao_common::serve::metrics::{Metrics, MetricsAddress};
use ciao_common::serve::server::{self, Service};
use ciao_common::serve::sockets::Sockets;
use ciao_common::store::Store;
use clap::{Args, Parser, Subcommand};

use crate::control::{self, RECONCILE};
use crate::metrics::Report;
use crate::options::{DefaultPool, builtin_pools};
use crate::{Config, Ipam, reconcile, routes};

const CONTROL: &str = "/run/ciao/ipam-control.sock";

const EVENTS: [Column; 6] = [("time", 19), ("kind", 7), ("tenant", 8), ("address", 15), ("subnet", 18), ("space", 6)];

const EXAMPLES: &str = "\
Examples:
  ciao-ipam serve --default-pool 10.200.0.0/16,24
  docker network create -d ciao-net --subnet 10.5.0.0/16 \\
      --ipam-driver ciao-ipam --ipam-opt tenant=acme app
  ciao-ipam lease list --tenant acme";

/// Docker IPAM driver: subnets of different tenants may overlap
#[derive(Parser)]
#[command(name = "ciao-ipam", version, after_help = EXAMPLES, max_term_width = 80)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon
    Serve(Serve),
    /// List address pools requested by Docker
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Release pools without a Docker network, left by lost calls
    Reconcile(Reconcile),
    /// Show which containers of other network drivers used an address, and when
    Events(Events),
    /// List granted and reserved addresses
    #[command(subcommand)]
    Lease(LeaseCommand),
}

#[derive(Args)]
struct Serve {
    /// Plugin socket, as in /etc/docker/plugins/ciao-ipam.spec
    #[arg(long, default_value = "/run/ciao/ciao-ipam.sock")]
    socket: PathBuf,
    /// Control socket, for lists, events and "ciao-ipam reconcile"
    #[arg(long, value_name = "SOCKET", default_value = CONTROL)]
    control: PathBuf,
    #[command(flatten)]
    database: Database,
    /// Subnet to allocate default pools from, and their prefix length (repeatable)
    #[arg(long, value_name = "CIDR,SIZE")]
    default_pool: Vec<DefaultPool>,
    /// Seconds until a lease without an endpoint is released
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(20..))]
    grace: u64,
    /// Socket or address for metrics, /healthz and /readyz
    #[arg(long, value_name = "unix:PATH|ADDRESS:PORT", overrides_with = "metrics")]
    metrics: Option<MetricsAddress>,
}

#[derive(Subcommand)]
enum PoolCommand {
    /// List pools
    #[command(visible_alias = "ls")]
    List(List),
}

#[derive(Subcommand)]
enum LeaseCommand {
    /// List leases
    #[command(visible_alias = "ls")]
    List(List),
}

#[derive(Args)]
struct Events {
    #[command(flatten)]
    events: EventOptions,
    /// Control socket of the daemon
    #[arg(long, value_name = "SOCKET", default_value = CONTROL)]
    control: PathBuf,
}

#[derive(Args)]
struct Reconcile {
    /// Print the changes without making them
    #[arg(long)]
    dry_run: bool,
    /// Accept a list from a different engine, or one with none of the recorded pools
    #[arg(long)]
    force: bool,
    /// Docker's socket
    #[arg(long, value_name = "SOCKET", default_value = "/var/run/docker.sock")]
    docker_socket: PathBuf,
    /// Control socket of the daemon; if none runs, the database is opened directly
    #[arg(long, value_name = "SOCKET", default_value = CONTROL)]
    control: PathBuf,
    #[command(flatten)]
    database: Database,
    /// Output as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(cli: Cli, version: &str) -> Result<()> {
    match cli.command {
        Command::Serve(serve) => self::serve(&serve, version),
        Command::Reconcile(args) => reconcile(args),
        Command::Events(args) => args.events.run(&Client::new("ciao-ipam", args.control)?, &EVENTS),
        Command::Pool(PoolCommand::List(list)) => list.run("pool", "pool_id"),
        Command::Lease(LeaseCommand::List(list)) => list.run("lease", "address"),
    }
}

fn reconcile(args: Reconcile) -> Result<()> {
    let is_running = UnixStream::connect(&args.control).is_ok();
    let store = if is_running { None } else { Some(Store::open_existing(&args.database.db)?) };
    let since = Instant::now();
    let docker = Client::new("dockerd", args.docker_socket)?;
    let networks = reconcile::listed_pools(&docker.get("/networks")?.success()?)?;
    let engine = docker.get("/info")?.success()?["ID"].as_str().map(str::to_owned);
    let age = u64::try_from(since.elapsed().as_millis())? + 1;
    let (dry_run, force) = (args.dry_run, args.force);
    let request = reconcile::Request { db: args.database.db, dry_run, force, age, engine, networks };
    let repairs = match store {
        Some(store) => serde_json::to_value(reconcile::run(&store, request)?)?,
        None => Client::new("ciao-ipam", args.control)?.post(RECONCILE, &request)?.success()?,
    };
    table::print_changes(repairs.as_array().map_or(&[], Vec::as_slice), args.json)
}

fn serve(args: &Serve, version: &str) -> Result<()> {
    daemon::start("ciao-ipam", version);
    let _lock = daemon::lock(&args.database.db, "ciao-ipam")?;
    let mut sockets = Sockets::default();
    let listener = sockets.next(&args.socket)?;
    let store = Arc::new(Store::open(&args.database.db)?);
    let default_pools = if args.default_pool.is_empty() { builtin_pools() } else { args.default_pool.clone() };
    let config = Config { default_pools, grace: Duration::from_secs(args.grace), ..Config::default() };
    let period = config.grace.min(config.takeover);
    let control = Arc::new(control::routes(Arc::clone(&store)));
    let plugin = Arc::new(routes::plugin(Ipam::new(Arc::clone(&store), config)?));
    let calls = [Calls::new("ipam", plugin.paths()), Calls::new("control", control.methods())];
    let [ipam_calls, control_calls] = calls.each_ref().map(Arc::clone);
    let reclaiming = Arc::clone(&plugin);
    let _timer = every("reclaim", period, move || reclaiming.driver().reclaim().map(drop))?;
    let mut services: Vec<Service> = vec![(listener.into(), plugin, Some(ipam_calls))];
    match sockets.next(&args.control) {
        Ok(listener) => services.push((listener.into(), control, Some(control_calls))),
        // Under a socket unit of an earlier version, whose service cannot create one.
        Err(error) => log::warn!("no control socket, \"ciao-ipam reconcile\" opens the database itself: {error:#}"),
    }
    if let Some(address) = &args.metrics
        && let Some(listener) = sockets.metrics(address)?
    {
        let metrics = Metrics::new("ciao-ipam", version, calls.into(), Arc::new(Report(store)));
        services.push((listener, Arc::new(metrics), None));
    }
    server::serve(services, daemon::notify_ready, daemon::notify_stopping)
}
