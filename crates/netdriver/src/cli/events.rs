// SPDX-License-Identifier: Apache-2.0
//! `events`: which containers used an address or a host port, and when.

use anyhow::Result;
use ciao_common::cli::events::{Column, EventOptions};
use clap::Args;

use super::control::Control;

/// What is seldom asked for is last, where a narrow terminal cuts it off.
const COLUMNS: [Column; 11] = [
    ("time", 19),
    ("kind", 7),
    ("tenant", 8),
    ("instance", 8),
    ("address", 15),
    ("port", 12),
    ("endpoint", 12),
    ("address6", 8),
    ("mac", 17),
    ("network", 12),
    ("vnic", 10),
];

#[derive(Args)]
pub(super) struct Events {
    #[command(flatten)]
    events: EventOptions,
    #[command(flatten)]
    control: Control,
}

pub(super) fn run(args: &Events) -> Result<()> {
    args.events.run(&args.control.client()?, &COLUMNS)
}
