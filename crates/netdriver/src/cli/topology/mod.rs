// SPDX-License-Identifier: Apache-2.0
//! `topology`: what is connected to what, as a tree for people or as a graph for Graphviz. Reads the database, and
//! Docker's names of networks and containers where dockerd answers.

mod draw;
mod tree;

use std::collections::BTreeMap;

use anyhow::Result;
use ciao_common::cli::table::{self, Database};
use ciao_common::store::Store;
use ciao_common::types::TenantId;
use clap::Args;

use self::draw::{drawn, graph};
use self::tree::{Records, tree};
use super::docker::{Docker, Engine};

#[derive(Args)]
pub(super) struct Topology {
    /// Limit the output to this tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Print a graph for Graphviz, such as for "dot -Tsvg"
    #[arg(long)]
    dot: bool,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    docker: Docker,
}

pub(super) fn run(args: &Topology) -> Result<()> {
    let records = Store::open_reading(&args.database.db)?.read(|tx| Records::read(tx, args.tenant.as_ref()))?;
    let names = Engine::connect(&args.docker).and_then(|engine| engine.names()).unwrap_or_else(|error| {
        // On standard error, so that the graph stays one.
        eprintln!("ciao-net: names of networks and containers are missing: {error:#}");
        BTreeMap::new()
    });
    let tenants = tree(&records, &names);
    table::print_text(
        match args.dot {
            true => graph(&tenants),
            false if tenants.is_empty() => "none".to_owned(),
            false => drawn(&tenants),
        }
        .trim_end(),
    )
}
