// SPDX-License-Identifier: Apache-2.0
//! `host`: the host's settings that ciao-net changed, and their restoration.

use std::path::Path;
use std::process::exit;

use anyhow::{Context, Result, ensure};
use ciao_common::cli::table::{self, Database};
use ciao_common::serve::{daemon, lock_file};
use ciao_common::store::Store;
use clap::{Args, Subcommand};

use super::control::Call;
use super::remote;
use crate::kernel::HostSettings;
use crate::kernel::linux::Linux;
use crate::uninstall::{self, Outcome};

/// The exit code of `restore` where something stays, as its list says. The package's scripts read it.
const SOMETHING_STAYS: i32 = 3;

#[derive(Subcommand)]
pub(super) enum HostCommand {
    /// List the hosts of the cluster
    List(Call),
    /// Show the settings of this host that ciao-net changed since boot
    Show(Show),
    /// Remove ciao's rules and restore the host's settings (stop the daemon first). Exit code 3: something stays
    Restore(Restore),
}

#[derive(Args)]
pub(super) struct Show {
    #[command(flatten)]
    database: Database,
    /// Output as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Restore {
    /// Also remove tenants' network namespaces and links, and launchers' VNICs, unless running containers use them
    #[arg(long)]
    remove_vnics: bool,
    #[command(flatten)]
    database: Database,
    /// Output as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &HostCommand) -> Result<()> {
    let kernel = Linux::new()?;
    match command {
        HostCommand::List(call) => remote::hosts(call),
        HostCommand::Show(args) => {
            let boot = kernel.boot_id()?;
            let rows = Store::open_reading(&args.database.db)?.read(|tx| tx.host_settings(&boot))?;
            table::print(&uninstall::changed(rows, &kernel)?, args.json)
        }
        HostCommand::Restore(args) => {
            let _namespace =
                lock_file::lock_namespace(Path::new(lock_file::FOLDER), "ciao-net").context("restore the host")?;
            let db = &args.database.db;
            let (mut store, mut lock) = (None, None);
            if db.exists() {
                lock = Some(daemon::lock(db, "ciao-net")?);
                store = Some(Store::open_existing(db)?);
            } else {
                log::warn!("database {} is missing: the host's settings are not known and stay", db.display());
            }
            let rows = uninstall::restore(store.as_ref(), &kernel, args.remove_vnics);
            drop((store, lock));
            table::print_changes(&rows, args.json)?;
            let failed = rows.iter().filter(|row| row.outcome == Outcome::Failed).count();
            ensure!(failed == 0, "{failed} of these could not be restored");
            if rows.iter().any(|row| row.outcome == Outcome::Left) {
                exit(SOMETHING_STAYS);
            }
            Ok(())
        }
    }
}
