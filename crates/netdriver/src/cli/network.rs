// SPDX-License-Identifier: Apache-2.0
//! `network` and `endpoint`: Docker networks, and the containers attached to them.

use anyhow::Result;
use ciao_common::cli::table::{self, List};
use ciao_common::types::NetworkId;
use clap::{Args, Subcommand};

use super::control::Control;

#[derive(Subcommand)]
pub(super) enum NetworkCommand {
    /// List networks
    List(List),
    /// Show a network with its namespace, uplink, published ports and rules
    Show(Show),
}

#[derive(Args)]
pub(super) struct Show {
    /// Docker's ID of the network, or a prefix of it
    ///
    /// Docker sends no network names to drivers; "docker network ls" shows both.
    id: NetworkId,
    #[command(flatten)]
    control: Control,
    /// Output as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
pub(super) enum EndpointCommand {
    /// List endpoints
    List(List),
}

pub(super) fn network(command: NetworkCommand) -> Result<()> {
    match command {
        NetworkCommand::List(list) => list.run("network"),
        NetworkCommand::Show(args) => {
            let network = args.control.client()?.get(&format!("/v1/networks/{}", args.id))?.success()?;
            table::print_one(&network, args.json)
        }
    }
}

pub(super) fn endpoint(EndpointCommand::List(list): EndpointCommand) -> Result<()> {
    list.run("endpoint")
}
