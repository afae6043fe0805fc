// SPDX-License-Identifier: Apache-2.0
//! `bench scale`: whether what is fast in an empty host stays so: many networks and VNICs, many leases, much churn.

mod churn;
mod leases;
mod networks;

use anyhow::Result;
use ciao_tests::lab::Host;
use clap::Args;

use crate::report::Section;

/// How much there is.
#[derive(Args, Clone, Debug)]
pub struct Size {
    /// Tenants, with five networks each and two VNICs on every network.
    #[arg(long, default_value_t = 200)]
    pub tenants: usize,
    /// Leases in the /8.
    #[arg(long, default_value_t = 200_000)]
    pub leases: usize,
    /// Leases in the /16, which has room for 65,533 beside its gateway.
    #[arg(long, default_value_t = 65_520)]
    pub full: usize,
    /// Addresses requested and released for the file's size.
    #[arg(long, default_value_t = 200_000)]
    pub churn: usize,
    /// How often each cost is measured.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// For how many milliseconds each time.
    #[arg(long, default_value_t = 400)]
    pub milliseconds: u64,
}

const TEXT: &str = "Real daemons in hosts without Docker, through their plugin and control sockets. Times of one call are \
medians; a ratio is to the first line.";

/// Measures in new hosts.
///
/// # Errors
/// No host; a call fails.
pub fn run(size: &Size) -> Result<Section> {
    let mut section = Section { title: "Scale".into(), text: TEXT.into(), ..Section::default() };
    networks::measure(size, &mut section)?;
    leases::measure(size, &mut section)?;
    churn::measure(size, &mut section)?;
    Ok(section)
}

/// The database's size and its log's, in bytes.
fn file_sizes(host: &Host) -> Result<[u64; 2]> {
    let size = |name: &str| Ok::<_, std::io::Error>(std::fs::metadata(host.path(name))?.len());
    Ok([size("/var/lib/ciao/ciao.db")?, size("/var/lib/ciao/ciao.db-wal").unwrap_or(0)])
}
