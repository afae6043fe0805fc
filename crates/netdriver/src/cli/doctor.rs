// SPDX-License-Identifier: Apache-2.0
//! `doctor`: what ciao-net needs of the host, with or without a daemon. The daemon has the same list in `status` and
//! `/readyz`.

use anyhow::{Result, ensure};
use ciao_common::cli::table;
use clap::Args;

use super::docker::Docker;
use crate::kernel::Inspection;
use crate::kernel::linux::Linux;
use crate::kernel::state::Check;

/// The oldest engine that is tested.
const OLDEST: &str = "20.10";

#[derive(Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    docker: Docker,
    /// Output as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Doctor) -> Result<()> {
    let mut checks = vec![engine(args.docker.version())];
    checks.extend(Linux::new()?.prerequisites());
    table::print(&checks, args.json)?;
    let missing = checks.iter().filter(|check| check.remedy.is_some()).count();
    ensure!(missing == 0, "problems found: {missing}");
    Ok(())
}

fn engine(version: Result<String>) -> Check {
    let number =
        |text: &str| text.split(['.', '-']).map(|part| part.parse().unwrap_or(0)).take(2).collect::<Vec<u32>>();
    let (found, remedy) = match version {
        Ok(version) if number(&version) < number(OLDEST) => (version, Some(format!("install {OLDEST} or newer"))),
        Ok(version) => (version, None),
        Err(error) => (format!("{error:#}"), Some("start dockerd".to_owned())),
    };
    Check { check: "engine", found, remedy, blocks: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_20_10_or_newer() {
        for (version, is_fine) in [("20.10.24+dfsg1", true), ("28.5.2", true), ("29.0.0-dev", true), ("19.03.8", false)]
        {
            assert_eq!(engine(Ok(version.to_owned())).remedy.is_none(), is_fine, "{version}");
        }
    }
}
