//! The daemon.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result};
use ciao_common::daemon;
use ciao_common::server::{self, Handler};
use ciao_common::store::{Scope, Store};
use clap::Args;

use super::Database;
use crate::control::Control;
use crate::kernel::Linux;
use crate::{Config, Driver, routes};

#[derive(Args)]
pub(super) struct Serve {
    /// The plugin socket, which /etc/docker/plugins/ciao-net.spec names.
    #[arg(long, default_value = "/run/ciao/ciao-net.sock")]
    socket: PathBuf,
    /// The control socket, for launchers.
    #[arg(long, default_value = "/run/ciao/control.sock")]
    control: PathBuf,
    #[command(flatten)]
    database: Database,
    /// Networks of one engine (local) or of a swarm (global).
    #[arg(long, default_value = "local")]
    scope: Scope,
    /// How often records and kernel are compared, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    reconcile_every: u64,
}

pub(super) fn run(args: &Serve) -> Result<()> {
    daemon::start_log("ciao-net", env!("CARGO_PKG_VERSION"));
    let _lock = daemon::lock(&args.database.db, "ciao-net")?;
    let store = Arc::new(Store::open(&args.database.db)?);
    let driver = Arc::new(Driver::new(store, Arc::new(Linux::new()?), Config { scope: args.scope })?);
    // Before anybody can ask: after a reboot every launcher's VNIC is there again when dockerd starts its containers.
    driver.reconcile(false).context("bring records and kernel together")?;
    let mut sockets = daemon::Sockets::default();
    let services: Vec<(_, Arc<dyn Handler>)> = vec![
        (sockets.next(&args.socket)?, Arc::new(routes::plugin(Arc::clone(&driver)))),
        (sockets.next(&args.control)?, Arc::new(Control::new(Arc::clone(&driver)))),
    ];
    reconcile_on_a_timer(Arc::downgrade(&driver), Duration::from_secs(args.reconcile_every))?;
    server::serve(services, daemon::notify_ready)
}

fn reconcile_on_a_timer(driver: Weak<Driver>, every: Duration) -> Result<()> {
    let watch = move || loop {
        std::thread::sleep(every);
        let Some(driver) = driver.upgrade() else { return };
        if let Err(error) = driver.reconcile(false) {
            log::warn!("reconcile: {error:#}");
        }
    };
    std::thread::Builder::new().name("reconcile".into()).spawn(watch).context("start a timer")?;
    Ok(())
}
