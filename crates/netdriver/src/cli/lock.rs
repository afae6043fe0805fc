//! The lock by which a host's launches take turns.
//!
//! Docker creates two networks of one name if asked at once; and whoever removes one must see the VNICs of all launches
//! that continue with it.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

use super::control::Control;

/// The control socket's folder, locked at most until its holder ends.
pub(super) struct LaunchLock(File);

const WAIT: &str = "wait for other launches";

impl LaunchLock {
    pub(super) fn open(control: &Control) -> Result<Self> {
        let folder = control.control.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        File::open(folder).map(Self).with_context(|| format!("open {}", folder.display()))
    }

    pub(super) fn shared(&self) -> Result<()> {
        self.0.lock_shared().context(WAIT)
    }

    pub(super) fn exclusive(&self) -> Result<()> {
        self.0.lock().context(WAIT)
    }

    pub(super) fn release(&self) -> Result<()> {
        self.0.unlock().context(WAIT)
    }
}
