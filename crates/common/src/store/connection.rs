// SPDX-License-Identifier: Apache-2.0
//! Opening the database, and its settings.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::clock::Clock;
use super::file::{CANNOT_OPEN, beside, explain};
use super::schema;

/// How long a statement waits for the other daemon, or for an administrator's open transaction. Shorter than the
/// timeout of a call.
const BUSY: Duration = Duration::from_secs(3);

/// How long a daemon waits for the other one to create or convert the file, which includes a backup.
const TURN: Duration = Duration::from_secs(60);

const RETRY: Duration = Duration::from_millis(5);

/// Prepared statements kept per connection: enough for all of a daemon's.
const STATEMENTS: usize = 128;

/// Opens the file for writing, creates it if it is missing, and converts it to this program's schema version.
///
/// The other daemon may do the same at the same time, and SQLite neither waits when it creates a file or changes its
/// journal mode, nor copies a file inside a transaction: hence the lock.
pub(super) fn open_for_writing(path: &Path, wall: SystemTime) -> Result<(Connection, Clock)> {
    open_within(path, wall, TURN)
}

/// As [`open_for_writing`], with a timeout for the lock.
pub(super) fn open_within(path: &Path, wall: SystemTime, patience: Duration) -> Result<(Connection, Clock)> {
    let _lock = OpenLock::take(path, patience)?;
    let mut conn = Connection::open(path).map_err(explain)?;
    configure(&conn)?;
    schema::check_owner(&conn)?;
    use_wal(&conn)?;
    conn.pragma_update(None, "synchronous", "FULL").map_err(explain)?;
    conn.pragma_update(None, "foreign_keys", true).map_err(explain)?;
    schema::migrate(&mut conn, path)?;
    let clock = Clock::open(&conn, wall)?;
    Ok((conn, clock))
}

/// Switches the file to the write-ahead log. SQLite does not wait for other connections here.
fn use_wal(conn: &Connection) -> Result<()> {
    let since = Instant::now();
    let mode: String = loop {
        match conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)) {
            Err(error) if is_busy(&error) && since.elapsed() < BUSY => std::thread::sleep(RETRY),
            done => break done.map_err(explain)?,
        }
    };
    ensure!(
        mode.eq_ignore_ascii_case("wal"),
        "the filesystem does not support SQLite's WAL (journal mode stays {mode}): put the file on a local disk"
    );
    Ok(())
}

/// The lock on creating and converting a file, beside it. The kernel releases it when the process ends.
struct OpenLock(#[expect(dead_code, reason = "held, not read")] File);

impl OpenLock {
    fn take(database: &Path, patience: Duration) -> Result<Self> {
        let path = beside(database, ".lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = opened.with_context(|| format!("open {}", path.display())).context(CANNOT_OPEN)?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if since.elapsed() < patience => std::thread::sleep(RETRY),
                Err(TryLockError::WouldBlock) => {
                    bail!("another process has held the lock {} for {patience:?}: stop it", path.display())
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("lock {}", path.display()));
                }
            }
        }
    }
}

/// Identity of the open file, to detect that it was deleted or replaced: SQLite would go on writing into the old one,
/// and those changes would be lost at the next start.
pub(super) struct OpenFile {
    path: PathBuf,
    file: (u64, u64),
}

impl OpenFile {
    /// The file at `path`.
    pub(super) fn of(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), file: Self::at(path)? })
    }

    fn at(path: &Path) -> Result<(u64, u64)> {
        let found = fs::metadata(path).with_context(|| format!("find {}", path.display()))?;
        Ok((found.dev(), found.ino()))
    }

    /// Fails if the path leads to another file, or none. Costs a microsecond.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            Self::at(&self.path).is_ok_and(|file| file == self.file),
            "database {} was deleted or replaced while this daemon has it open: restore it, or restart both daemons",
            self.path.display()
        );
        Ok(())
    }
}

pub(super) fn open_for_reading(path: &Path) -> Result<Connection> {
    let is_there = path.try_exists().context("run this as root, or as a member of the group ciao")?;
    ensure!(is_there, "no such file: give the path of ciao's database, or start ciao-ipam or ciao-net once");
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(explain)?;
    configure(&conn)?;
    Ok(conn)
}

fn configure(conn: &Connection) -> Result<()> {
    conn.busy_timeout(BUSY).map_err(explain)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // A plan must not depend on bound values: otherwise each use of a cached statement would compile it again.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(explain)?;
    // The default page cache of 2 MB per connection is larger than a busy host's whole database.
    conn.pragma_update(None, "cache_size", -512).map_err(explain)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
