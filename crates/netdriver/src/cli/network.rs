// SPDX-License-Identifier: Apache-2.0
//! `network` and `endpoint`: Docker networks, and the containers attached to them.

use anyhow::Result;
use ciao_common::cli::table::{self, List};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::control::Call;
use super::docker::{Docker, encoded, network_id};

#[derive(Subcommand)]
pub(super) enum NetworkCommand {
    /// List networks
    #[command(visible_alias = "ls")]
    List(List),
    /// Show a network with its namespace, uplink, published ports and rules
    Show(Show),
}

#[derive(Args)]
pub(super) struct Show {
    /// Name of the network in Docker, its ID, or a prefix of that
    #[arg(value_name = "NETWORK", value_parser = NonEmptyStringValueParser::new())]
    network: String,
    #[command(flatten)]
    pub(super) call: Call,
    #[command(flatten)]
    docker: Docker,
}

impl Show {
    /// The network.
    pub(super) fn read(&self) -> Result<Value> {
        let id = network_id(&self.docker, &self.network)?;
        self.call.client()?.get(&format!("/v1/networks/{}", encoded(&id)))?.success()
    }
}

#[derive(Subcommand)]
pub(super) enum EndpointCommand {
    /// List endpoints
    #[command(visible_alias = "ls")]
    List(List),
}

pub(super) fn network(command: NetworkCommand) -> Result<()> {
    match command {
        NetworkCommand::List(list) => list.run("network", "network"),
        NetworkCommand::Show(args) => table::print_one(&args.read()?, args.call.json),
    }
}

pub(super) fn endpoint(EndpointCommand::List(list): EndpointCommand) -> Result<()> {
    list.run("endpoint", "endpoint")
}
