//! The network driver: tenants' networks, VNICs, and what Docker's calls mean for them.
//!
//! - [`network`]: `CreateNetwork`, `DeleteNetwork`, and which tenant and addresses a network belongs to;
//! - [`endpoint`]: `CreateEndpoint`, `DeleteEndpoint`: which VNIC a container gets;
//! - [`sandbox`]: `Join`, `Leave`: handing the link over;
//! - [`vnic`]: the launcher's side, served by [`control`];
//! - [`wiring`]: the kernel's part of networks and VNICs: namespaces, bridges, links;
//! - [`reconcile`]: records and kernel brought together again;
//! - [`kernel`]: Linux; [`options`]: what a user may say; [`names`]: what things are called; [`cli`]: the programs.

pub mod cli;
pub mod control;
pub mod endpoint;
pub mod kernel;
pub mod names;
pub mod network;
pub mod options;
mod pairing;
pub mod reconcile;
pub mod routes;
pub mod sandbox;
pub mod vnic;
mod wiring;

use std::sync::Arc;

use anyhow::Result;
use ciao_common::store::{Scope, Store};

use kernel::Kernel;
use wiring::Wiring;

/// The network driver. Its methods are named after Docker's calls; none of them blocks longer than disk and kernel do.
pub struct Driver {
    store: Arc<Store>,
    wiring: Arc<Wiring>,
    config: Config,
}

/// What an administrator may set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What the driver tells Docker: networks of one engine, or of a swarm.
    pub scope: Scope,
}

impl Default for Config {
    fn default() -> Self {
        Self { scope: Scope::Local }
    }
}

impl Driver {
    /// A driver on `store` and `kernel`.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(store: Arc<Store>, kernel: Arc<dyn Kernel>, config: Config) -> Result<Self> {
        let wiring = Arc::new(Wiring::new(Arc::clone(&store), kernel)?);
        Ok(Self { store, wiring, config })
    }
}
