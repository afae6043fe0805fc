// SPDX-License-Identifier: Apache-2.0
//! `vnic`: VNICs of launchers.

use anyhow::Result;
use ciao_common::cli::table::{self, List};
use ciao_common::types::VnicId;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::control::Control;
use crate::launcher::VnicRequest;

/// In two lines: clap does not wrap it.
const USAGE: &str = "ciao-net vnic create [OPTIONS] --tenant <TENANT> --instance <INSTANCE>
           --subnet <CIDR> --ip <ADDRESS> --mac <MAC>";

#[derive(Subcommand)]
pub(super) enum Command {
    /// Create a VNIC: veth pair, MAC address, bridge
    ///
    /// Prints the VNIC and the Docker network to create for it.
    #[command(override_usage = USAGE)]
    Create(Box<Create>),
    /// List VNICs
    List(List),
    /// Show a VNIC
    Show(Show),
    /// Delete a VNIC and its address reservation
    Delete(Delete),
}

#[derive(Args)]
pub(super) struct Create {
    #[command(flatten)]
    vnic: VnicRequest,
    #[command(flatten)]
    control: Control,
    /// Output as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Show {
    /// ID of the VNIC
    id: VnicId,
    #[command(flatten)]
    control: Control,
    /// Output as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Delete {
    /// ID of the VNIC
    id: VnicId,
    /// Delete the VNIC even if a running container uses it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    control: Control,
    /// Output as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::Create(args) => {
            let created = args.control.client()?.post("/v1/vnics", &args.vnic.checked()?)?.success()?;
            print(created, args.json)
        }
        Command::List(list) => list.run("vnic"),
        Command::Show(args) => {
            print(args.control.client()?.get(&format!("/v1/vnics/{}", args.id))?.success()?, args.json)
        }
        Command::Delete(args) => {
            let path = format!("/v1/vnics/{}?force={}", args.id, args.force);
            print(args.control.client()?.delete(&path)?.success()?, args.json)
        }
    }
}

/// Prints a reply; for people, the network's fields are beside the others, without the request for Docker.
fn print(mut value: Value, json: bool) -> Result<()> {
    if !json {
        let network = value.as_object_mut().and_then(|fields| fields.remove("network"));
        for (key, field) in network.as_ref().and_then(Value::as_object).into_iter().flatten() {
            if key != "docker" {
                value[format!("network_{key}")] = field.clone();
            }
        }
    }
    table::print_one(&value, json)
}
