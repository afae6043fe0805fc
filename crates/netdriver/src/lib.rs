//! The network driver: tenants' networks, VNICs, and what Docker's calls mean for them.
//!
//! - [`network`]: `CreateNetwork`, `DeleteNetwork`, and which tenant and addresses a network belongs to;
//! - [`endpoint`]: `CreateEndpoint`, `DeleteEndpoint`: which VNIC a container gets;
//! - [`sandbox`]: `Join`, `Leave`: handing the link over; `ready`: the answers that are known already;
//! - [`ports`]: published ports; [`uplink`]: tenants' ways to the host; [`rules`]: what may pass, and
//!   `host_rules`: keeping that up;
//! - [`vnic`]: the launcher's side, served by [`control`];
//! - [`wiring`]: the kernel's part of networks and VNICs: namespaces, bridges, links;
//! - [`show`]: a network with all that stands for it; [`reconcile`]: records and kernel brought together again;
//! - [`kernel`]: Linux; [`options`]: what a user may say; [`names`]: what things are called; [`cli`]: the programs.

pub mod cli;
#[cfg(feature = "fake-kernel")]
pub mod consistency;
pub mod control;
pub mod endpoint;
mod held;
mod host_rules;
pub mod kernel;
pub mod names;
pub mod network;
pub mod options;
mod pairing;
pub mod ports;
mod publish;
mod ready;
pub mod reconcile;
pub mod routes;
pub mod rules;
pub mod sandbox;
pub mod show;
pub mod uplink;
pub mod vnic;
mod wiring;

use std::sync::Arc;

use anyhow::Result;
use ciao_common::store::{Scope, Store};
use ciao_common::types::{MacAddr, Subnet, VnicId};

use kernel::Kernel;
use wiring::Wiring;

/// The network driver. Its methods are named after Docker's calls; none of them blocks longer than disk and kernel do.
pub struct Driver {
    store: Arc<Store>,
    wiring: Arc<Wiring>,
    held: held::Held,
    ready: ready::Ready,
    config: Config,
}

/// What an administrator may set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What the driver tells Docker: networks of one engine, or of a swarm.
    pub scope: Scope,
    /// Where the addresses of uplinks come from, pairs of them.
    pub uplink_pool: Subnet,
}

impl Default for Config {
    fn default() -> Self {
        let uplink_pool = "169.254.64.0/18".parse().expect("a constant");
        Self { scope: Scope::Local, uplink_pool }
    }
}

impl Driver {
    /// A driver on `store` and `kernel`.
    ///
    /// # Errors
    /// The disk's; no thread can be started.
    pub fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>, config: Config) -> Result<Self> {
        let fresh = MacAddr::hashed(VnicId::random().as_str().as_bytes()).octets();
        let fresh =
            format!("fd{:02x}:{:02x}{:02x}:{:02x}{:02x}::/64", fresh[1], fresh[2], fresh[3], fresh[4], fresh[5]);
        let uplink_pool6 = store.write(move |tx| tx.setting_or("uplink_pool6", &fresh))?;
        let pools = uplink::Pools::new(config.uplink_pool, uplink_pool6.parse()?)?;
        let wiring = Wiring::new(Arc::clone(&store), kernel, pools)?;
        Ok(Self { store, wiring, held: held::Held::default(), ready: ready::Ready::default(), config })
    }
}

/// What a failed call says when its undoing was tried: always the first cause. A failed undo is logged, and the next
/// reconcile does it.
fn undone(error: anyhow::Error, undo: Result<()>) -> anyhow::Error {
    if let Err(second) = undo {
        log::warn!("undo what was half made: {second:#}: the next reconcile tries again");
    }
    error
}
