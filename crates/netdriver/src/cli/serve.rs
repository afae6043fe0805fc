// SPDX-License-Identifier: Apache-2.0
//! The daemon.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ciao_common::cli::table::Database;
use ciao_common::serve::calls::Calls;
use ciao_common::serve::every::every;
use ciao_common::serve::metrics::{Metrics, MetricsAddress};
use ciao_common::serve::server::{self, Service};
use ciao_common::serve::sockets::Sockets;
use ciao_common::serve::{daemon, lock_file};
use ciao_common::store::{Scope, Store};
use ciao_common::types::{LinkName, Subnet};
use clap::Args;

use super::exchange::ExchangeOptions;
use super::lock::LaunchLock;
use crate::control::{self, Report};
use crate::exchange::Exchange;
use crate::kernel::linux::Linux;
use crate::reconcile::Watcher;
use crate::rules::MOST_NAT_PORTS;
use crate::{Config, Driver, EgressPolicy, Shares, TUNNEL_PORT, TunnelConfig, docker};

/// Open files that are kept for calls, the database and netlink sockets, whatever is published.
const RESERVED_FILES: u64 = 256;
/// How often concentrators are asked whether they are there.
const PROBE_EVERY: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct Serve {
    /// Plugin socket, as in /etc/docker/plugins/ciao-net.spec
    #[arg(long, default_value = "/run/ciao/ciao-net.sock")]
    socket: PathBuf,
    /// Control socket, for launchers, controllers and the command line
    #[arg(long, value_name = "SOCKET", default_value = "/run/ciao/control.sock")]
    control: PathBuf,
    #[command(flatten)]
    database: Database,
    /// Scope of the networks: local (one engine) or global (a swarm)
    #[arg(long, default_value = "local")]
    scope: Scope,
    /// Address pool of uplinks, two addresses per network namespace
    #[arg(long, value_name = "CIDR", default_value = "169.254.64.0/18")]
    uplink_pool: Subnet,
    /// Subnet that tenants do not reach, such as the operator's (repeatable)
    ///
    /// A network's option egress_allow makes exceptions.
    #[arg(long, value_name = "CIDR")]
    egress_deny: Vec<Subnet>,
    /// Resolver whose port 53 tenants reach, besides those of the host's resolv.conf (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    resolver: Vec<IpAddr>,
    /// Tracked connections to other hosts per tenant (0: unlimited)
    #[arg(long, value_name = "NUMBER", default_value_t = Shares::default().flows)]
    flows_per_tenant: u32,
    /// Source ports of the host per tenant and destination (0: unlimited)
    #[arg(long, value_name = "NUMBER", default_value_t = Shares::default().nat_ports,
        value_parser = clap::value_parser!(u32).range(0..=i64::from(MOST_NAT_PORTS)))]
    nat_ports_per_tenant: u32,
    /// UDP port of tunnels between hosts, the same on all of them
    #[arg(long, value_name = "PORT", default_value_t = TUNNEL_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    tunnel_port: u16,
    /// Link that tunnels between hosts use, such as wg0 [default: any]
    #[arg(long, value_name = "LINK", value_parser = tunnel_link)]
    tunnel: Option<LinkName>,
    #[command(flatten)]
    exchange: ExchangeOptions,
    /// Interval of reconciliation in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    reconcile_every: u64,
    /// Socket or address for metrics, /healthz and /readyz
    #[arg(long, value_name = "unix:PATH|ADDRESS:PORT", overrides_with = "metrics")]
    metrics: Option<MetricsAddress>,
    /// Metrics also of each VNIC: bytes and packets
    #[arg(long)]
    metrics_vnics: bool,
}

/// A link that the rules can name.
fn tunnel_link(text: &str) -> Result<LinkName> {
    let link: LinkName = text.parse()?;
    ensure!(link.is_plain(), "link {text:?}: give one whose name has neither a quotation mark nor an asterisk");
    Ok(link)
}

pub(super) fn run(args: &Serve, version: &str) -> Result<()> {
    daemon::start("ciao-net", version);
    let kernel = Linux::new()?;
    kernel.check_mounts()?;
    let files = daemon::raise_file_limit()?;
    let _namespace = lock_file::lock_namespace(Path::new(lock_file::FOLDER), "ciao-net")?;
    let _lock = daemon::lock(&args.database.db, "ciao-net")?;
    let mut sockets = Sockets::default();
    let (plugin, launchers) = (sockets.next(&args.socket)?, sockets.next(&args.control)?);
    let metrics = args.metrics.as_ref().map(|address| sockets.metrics(address)).transpose()?.flatten();
    // Created here, so that it has this daemon's group.
    LaunchLock::open(&args.control)?;
    let store = Arc::new(Store::open(&args.database.db)?);
    let exchange = args.exchange.config();
    let driver = Arc::new(Driver::new(
        store,
        Arc::new(kernel),
        Config {
            scope: args.scope,
            uplink_pool: args.uplink_pool,
            tunnel: TunnelConfig {
                port: args.tunnel_port,
                link: args.tunnel.clone(),
                exchange: exchange.as_ref().map(|config| config.listen.port()),
                exchange_subnets: args.exchange.subnets.clone(),
            },
            shares: Shares {
                flows: args.flows_per_tenant,
                nat_ports: args.nat_ports_per_tenant,
                published_ports: usize::try_from(files.saturating_sub(RESERVED_FILES))?,
            },
            hosts_file: exchange.as_ref().map(|config| config.hosts.clone()),
            egress: EgressPolicy { resolvers: args.resolver.clone(), deny: args.egress_deny.clone() },
            reconcile_every: Duration::from_secs(args.reconcile_every),
            metrics_vnics: args.metrics_vnics,
        },
    )?);
    driver.resume().context("hold published ports")?;
    let handler = docker::plugin(Arc::clone(&driver));
    let control = control::routes(Arc::clone(&driver));
    let calls = [Calls::new("network", handler.paths()), Calls::new("control", control.methods())];
    let [network_calls, control_calls] = calls.each_ref().map(Arc::clone);
    let mut services: Vec<Service> = vec![
        (plugin.into(), Arc::new(handler), Some(network_calls)),
        (launchers.into(), Arc::new(control), Some(control_calls)),
    ];
    if let Some(listener) = metrics {
        let report = Arc::new(Report(Arc::clone(&driver)));
        services.push((listener, Arc::new(Metrics::new("ciao-net", version, calls.into(), report)), None));
    }
    let _exchange = exchange.map(|config| Exchange::start(Arc::clone(&driver), config)).transpose()?;
    let probing = Arc::clone(&driver);
    let _prober = every("concentrators", PROBE_EVERY, move || probing.probe_concentrators())?;
    // All is compared with the records behind the calls: each has its own namespace restored first.
    let mut watcher = Watcher::from_start(driver, Duration::from_secs(args.reconcile_every));
    // It waits by itself.
    let _timer = every("reconcile", Duration::from_millis(1), move || watcher.step())?;
    server::serve(services, daemon::notify_ready, daemon::notify_stopping)
}
