// SPDX-License-Identifier: Apache-2.0
//! `vnic`: VNICs of launchers.

use anyhow::Result;
use ciao_common::cli::table::{self, List};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::control::Call;
use super::vnic_argument::VnicArgument;
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
    #[command(visible_alias = "ls")]
    List(List),
    /// Show a VNIC
    Show(Show),
    /// Change the rate limit and the additional addresses of a VNIC, while it is in use
    Set(Set),
    /// Delete a VNIC and its address reservation
    Delete(Delete),
}

#[derive(Args)]
pub(super) struct Create {
    #[command(flatten)]
    vnic: VnicRequest,
    #[command(flatten)]
    call: Call,
}

#[derive(Args)]
pub(super) struct Show {
    #[command(flatten)]
    vnic: VnicArgument,
    #[command(flatten)]
    call: Call,
}

#[derive(Args)]
pub(super) struct Set {
    #[command(flatten)]
    vnic: VnicArgument,
    /// Rate limit per direction, such as 100mbit, or none
    #[arg(long, required_unless_present = "allow")]
    rate: Option<String>,
    /// Additional source address (repeatable); replaces the current ones, "none" removes all
    #[arg(long, value_name = "ADDRESS")]
    allow: Vec<String>,
    #[command(flatten)]
    call: Call,
}

#[derive(Args)]
pub(super) struct Delete {
    #[command(flatten)]
    vnic: VnicArgument,
    /// Delete the VNIC even if a running container uses it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    call: Call,
}

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::Create(args) => {
            let created = args.call.client()?.post("/v1/vnics", &args.vnic.checked()?)?.success()?;
            print(created, args.call.json)
        }
        Command::List(list) => list.run("vnic", "id"),
        Command::Show(args) => {
            let ciao = args.call.client()?;
            print(ciao.get(&format!("/v1/vnics/{}", args.vnic.id(&ciao)?))?.success()?, args.call.json)
        }
        Command::Set(args) => {
            let ciao = args.call.client()?;
            let path = format!("/v1/vnics/{}", args.vnic.id(&ciao)?);
            print(ciao.patch(&path, &changes(&args))?.success()?, args.call.json)
        }
        Command::Delete(args) => {
            let ciao = args.call.client()?;
            let path = format!("/v1/vnics/{}?force={}", args.vnic.id(&ciao)?, args.force);
            print(ciao.delete(&path)?.success()?, args.call.json)
        }
    }
}

/// The body of a change: what is not named stays, `none` takes it away.
fn changes(args: &Set) -> Value {
    let mut body = json!({});
    if let Some(rate) = &args.rate {
        body["rate"] = if rate == "none" { Value::Null } else { json!(rate) };
    }
    if !args.allow.is_empty() {
        body["allowed_addresses"] = if args.allow == ["none"] { json!([]) } else { json!(args.allow) };
    }
    body
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
