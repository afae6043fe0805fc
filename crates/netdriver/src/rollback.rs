// SPDX-License-Identifier: Apache-2.0
//! The error of a call that failed half-way.

use anyhow::{Error, Result};

/// The cause, whatever became of its rollback: a failed one is logged, and retried by the next reconcile.
pub(crate) fn rolled_back(cause: Error, rollback: Result<()>) -> Error {
    if let Err(error) = rollback {
        log::warn!("rollback failed: {error:#}: retried by the next reconcile");
    }
    cause
}
