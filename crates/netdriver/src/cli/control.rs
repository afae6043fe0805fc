// SPDX-License-Identifier: Apache-2.0
//! The options of commands that need the daemon: its control socket, and the form of its reply.

use std::path::PathBuf;

use anyhow::Result;
use ciao_common::cli::client::Client;
use clap::Args;

#[derive(Args)]
pub(super) struct Control {
    /// Control socket of the daemon
    #[arg(long, value_name = "SOCKET", default_value = "/run/ciao/control.sock")]
    pub(super) control: PathBuf,
}

impl Control {
    pub(super) fn client(&self) -> Result<Client> {
        Client::new("ciao-net", self.control.clone())
    }
}

/// Of a command that prints a reply of the daemon.
#[derive(Args)]
pub(super) struct Call {
    #[command(flatten)]
    control: Control,
    /// Output as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Call {
    pub(super) fn client(&self) -> Result<Client> {
        self.control.client()
    }
}
