// SPDX-License-Identifier: Apache-2.0
//! Names of files beside the database, and advice for SQLite's errors.

use std::path::{Path, PathBuf};

use anyhow::{Error, anyhow};
use rusqlite::ErrorCode;

/// A file beside the database: its name with a suffix.
pub(super) fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    database.with_file_name(name)
}

pub(super) const CANNOT_OPEN: &str = "the file cannot be opened: check that its folder exists, its owner and mode, and that the disk \
                           is mounted read-write";

/// SQLite's error, with advice.
pub(super) fn explain(error: rusqlite::Error) -> Error {
    // Only its text: its source repeats it.
    let cause = anyhow!("{error}");
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process holds the database's write lock: end its open transaction (sqlite3 with BEGIN?)"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "the database cannot be written: check the file's and folder's owner and mode, and that the disk is mounted read-write"
        }
        Some(ErrorCode::DiskFull) => "the disk is full: free some space, nothing needs a restart",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged or not a ciao database: stop both daemons, keep a copy, and restore a backup"
        }
        Some(ErrorCode::CannotOpen) => CANNOT_OPEN,
        Some(ErrorCode::SystemIoFailure) => "the disk failed: see the kernel's log",
        _ => return cause,
    };
    cause.context(advice)
}
