// SPDX-License-Identifier: Apache-2.0
//! `remote`: addresses of tenants on other hosts, and `host list`: those hosts, as a controller or they themselves say.

use anyhow::Result;
use ciao_common::cli::table::{self, List};
use ciao_common::types::TenantId;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::control::Call;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List addresses and the hosts that they are on
    #[command(visible_alias = "ls")]
    List(List),
    /// Show how many addresses of a tenant are known, and which announced ones are rejected
    Show(Show),
}

#[derive(Args)]
pub(super) struct Show {
    /// Tenant
    tenant: TenantId,
    #[command(flatten)]
    call: Call,
}

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::List(list) => list.run("remote", "address"),
        Command::Show(args) => {
            let path = format!("/v1/tenants/{}/remotes", args.tenant);
            let mut value = args.call.client()?.get(&path)?.success()?;
            if !args.call.json {
                value["remotes"] = json!(value["remotes"].as_array().map_or(0, Vec::len));
                if let Some(refused) = value["refused"].as_array() {
                    let words = |row: &Value| {
                        row.as_object()
                            .into_iter()
                            .flatten()
                            .filter_map(|(_, word)| word.as_str())
                            .collect::<Vec<_>>()
                            .join(" ")
                    };
                    value["refused"] = json!(refused.iter().map(words).collect::<Vec<_>>());
                }
            }
            table::print_one(&value, args.call.json)
        }
    }
}

/// The hosts of the cluster.
pub(super) fn hosts(call: &Call) -> Result<()> {
    let reply = call.client()?.get("/v1/hosts")?.success()?;
    let own = &reply["own"];
    let row = |host: &Value| {
        let (id, exchange) = (&host["id"], &reply["exchange"]);
        let mut row = json!({ "host": id, "address": host["address"], "mtu": host["mtu"], "this": id == own });
        if exchange.as_object().is_some_and(|hosts| !hosts.is_empty()) {
            row["exchange"] = exchange[id.as_str().unwrap_or_default()].clone();
        }
        row
    };
    let rows: Vec<_> = reply["hosts"].as_array().into_iter().flatten().map(row).collect();
    table::print(&rows, call.json)
}
