// SPDX-License-Identifier: Apache-2.0
//! Files of the kernel that may not be there.

use std::io::{ErrorKind, Result};

/// What was read; `None`: there is no such file.
pub(super) fn existing<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}
