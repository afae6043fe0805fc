// SPDX-License-Identifier: Apache-2.0
//! The daemon's control socket, as every command that needs the daemon takes it.

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
