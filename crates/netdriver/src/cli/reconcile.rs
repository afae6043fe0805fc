// SPDX-License-Identifier: Apache-2.0
//! `reconcile`: what the daemon does at its start and every minute, now.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ciao_common::cli::table;
use clap::Args;

use super::control::Call;
use super::docker::{self, Docker};
use crate::control;
use crate::reconcile::Repair;

#[derive(Args)]
pub(super) struct Reconcile {
    /// Print the changes without making them
    #[arg(long)]
    dry_run: bool,
    /// Also restore lost records from Docker, and remove those unknown to Docker
    #[arg(long)]
    docker: bool,
    /// Accept a list from a different engine, or one without any recorded network
    #[arg(long, requires = "docker")]
    force: bool,
    /// Delete unrecorded links that --docker could not restore; running containers on them lose their network
    #[arg(long, conflicts_with = "docker")]
    give_up: bool,
    #[command(flatten)]
    engine: Docker,
    #[command(flatten)]
    call: Call,
}

pub(super) fn run(args: &Reconcile) -> Result<()> {
    let client = args.call.client()?;
    let Reconcile { dry_run, force, give_up, .. } = args;
    let path = format!("/v1/reconcile?dry_run={dry_run}&force={force}&give_up={give_up}");
    let since = Instant::now();
    let bodies = if args.docker {
        let recorded = client.get("/v1/records")?.success()?;
        let recorded = serde_json::from_value(recorded).context("read the daemon's reply")?;
        control::requests(docker::known(&args.engine, &recorded)?)?.into_iter().map(Some).collect()
    } else {
        vec![None]
    };
    let mut repairs = Vec::<Repair>::new();
    for mut body in bodies {
        if let Some(known) = &mut body {
            known.age = u64::try_from(since.elapsed().as_millis())? + 1;
        }
        let done = client.post(&path, &body)?.success()?;
        repairs.extend(serde_json::from_value::<Vec<_>>(done).context("read the daemon's reply")?);
    }
    table::print_changes(&repairs, args.call.json)?;
    let failed = repairs.iter().filter(|repair| repair.error.is_some()).count();
    ensure!(failed == 0, "{failed} of {} repairs failed: see column \"error\"", repairs.len());
    Ok(())
}
