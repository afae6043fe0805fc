// SPDX-License-Identifier: Apache-2.0
//! `tunnel`: networks over several hosts, and the path MTU between hosts.

use anyhow::{Result, bail, ensure};
use ciao_common::cli::table::{self, List};
use ciao_common::types::HostId;
use clap::{Args, Subcommand};

use super::control::Call;
use super::network;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List networks that reach over several hosts
    #[command(visible_alias = "ls")]
    List(List),
    /// Show a network's tunnel, and how many MAC addresses each other host has
    Show(network::Show),
    /// Find the largest packet that another host answers
    ///
    /// Exit code 1 if it is smaller than the MTU in the list of hosts.
    Ping(Ping),
}

#[derive(Args)]
pub(super) struct Ping {
    /// ID of the host
    host: HostId,
    #[command(flatten)]
    call: Call,
}

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::List(list) => list.run("tunnel", "network"),
        Command::Show(args) => {
            let mut network = args.read()?;
            let tunnel = network["tunnel"].take();
            ensure!(!tunnel.is_null(), "the network is on this host alone: it was created without --opt vni");
            table::print_one(&tunnel, args.call.json)
        }
        Command::Ping(args) => {
            let found = args.call.client()?.get(&format!("/v1/hosts/{}/mtu", args.host))?.success()?;
            table::print_one(&found, args.call.json)?;
            let (mtu, host) = (&found["mtu"], args.host);
            match found["carried"].as_u64() {
                None => {
                    bail!(
                        "host {host} answers no ICMP echo request: is its address right, and does its firewall accept \
                         them? Whether its tunnel's UDP port is reached is not tested"
                    )
                }
                Some(carried) if Some(carried) < mtu.as_u64() => bail!(
                    "the path to host {host} carries {carried} bytes, and its MTU in the list of hosts is {mtu}: correct \
                     the link with the smaller MTU, or the list, and create the networks again"
                ),
                Some(_) => Ok(()),
            }
        }
    }
}
