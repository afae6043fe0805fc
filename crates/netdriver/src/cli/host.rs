// SPDX-License-Identifier: Apache-2.0
//! `host`: the host's settings that ciao-net changed, and their restoration.

use std::path::Path;

use anyhow::{Context, Result};
use ciao_common::cli::table::{self, Database};
use ciao_common::serve::{daemon, lock_file};
use ciao_common::store::Store;
use clap::{Args, Subcommand};

use super::control::Call;
use super::remote;
use crate::kernel::HostSettings;
use crate::kernel::linux::Linux;
use crate::uninstall;

#[derive(Subcommand)]
pub(super) enum HostCommand {
    /// List the hosts of the cluster
    List(Call),
    /// Show the settings of this host that ciao-net changed since boot
    Show(Show),
    /// Remove ciao's rules and restore the host's settings (stop the daemon first)
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
            if !db.exists() {
                log::warn!("database {} is missing: the host's settings are not known and stay", db.display());
                return table::print_changes(&uninstall::restore(None, &kernel, args.remove_vnics)?, args.json);
            }
            let _lock = daemon::lock(db, "ciao-net")?;
            let store = Store::open_existing(db)?;
            table::print_changes(&uninstall::restore(Some(&store), &kernel, args.remove_vnics)?, args.json)
        }
    }
}
