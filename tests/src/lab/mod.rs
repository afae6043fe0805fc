// SPDX-License-Identifier: Apache-2.0
//! The lab: whole Docker hosts, each in namespaces of its own, on one machine and without changing it.
//!
//! A [`Host`] has its own root filesystem (an overlay), network, process ids, hostname and cgroups, and in them dockerd
//! and the two ciao daemons. Opening one takes about a second and no download, so a test opens its own and shares
//! nothing.
//!
//! ```no_run
//! # use ciao_tests::lab::Host;
//! # fn main() -> anyhow::Result<()> {
//! let host = Host::builder().name("a").dockerd_args(["--live-restore"]).start()?;
//! host.docker(&["run", "-d", "--name", "web", "busybox", "sleep", "600"])?;
//! host.dockerd().kill()?;
//! host.dockerd().start()?;
//! assert_eq!(host.sh("docker ps --format '{{.Names}}'")?, "web");
//! # Ok(())
//! # }
//! ```
//!
//! The pieces: `namespaces` makes the empty host and runs commands in it, `process` holds one command that keeps
//! running, `daemon` starts and stops a service, `engine` selects the Docker Engine, `ciao` puts our own daemons in,
//! `booted` is a
//! host under systemd, `lan` joins hosts, `packages` installs what else a
//! test needs inside.

mod booted;
mod builder;
mod ciao;
mod daemon;
mod engine;
mod host;
mod image;
mod lan;
mod namespaces;
mod output;
mod packages;
mod process;

pub use booted::Booted;
pub use builder::Builder;
pub use ciao::built;
pub use daemon::Daemon;
pub use engine::Engine;
pub use host::Host;
pub use image::LIVE;
pub use lan::Lan;
pub use output::Output;
pub use process::Process;

use std::path::{Path, PathBuf};

/// The folder of the cargo workspace, which every host sees read-only at the same path.
pub fn workspace() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).to_path_buf()
}
