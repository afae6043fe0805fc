// SPDX-License-Identifier: Apache-2.0
//! Opening the file, and its settings.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::file::{CANNOT_OPEN, beside, explain};
use super::schema;

/// How long a statement waits for the other daemon, or for an administrator's open transaction. Shorter than the
/// time in which a call must be answered.
const BUSY: Duration = Duration::from_secs(3);

/// How long a daemon waits for the other one to make or convert the file: a backup of it is written meanwhile.
const TURN: Duration = Duration::from_secs(60);

const RETRY: Duration = Duration::from_millis(5);

/// Statements kept prepared on each connection: all that a daemon has.
const STATEMENTS: usize = 128;

/// Opens the file for the daemon's writer, made if it is not there, and brings its schema to this program's version.
///
/// Another daemon may do the same at the same moment, and SQLite neither waits when it makes a file or changes its
/// journal, nor copies a file inside a transaction: so they take turns.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection> {
    open_within(path, TURN)
}

/// The same, with a time after which it no longer waits for its turn.
pub(super) fn open_within(path: &Path, patience: Duration) -> Result<Connection> {
    let _turn = Turn::take(path, patience)?;
    let mut conn = Connection::open(path).map_err(explain)?;
    configure(&conn)?;
    schema::check_owner(&conn)?;
    use_wal(&conn)?;
    conn.pragma_update(None, "synchronous", "FULL").map_err(explain)?;
    conn.pragma_update(None, "foreign_keys", true).map_err(explain)?;
    schema::migrate(&mut conn, path)?;
    Ok(conn)
}

/// Switches to the write-ahead log, which is the file's own from then on. SQLite does not wait for others with that.
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

/// The turn to make or convert a file: a lock beside it, which the kernel releases with its process.
struct Turn(#[expect(dead_code, reason = "held, not read")] File);

impl Turn {
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
                    bail!("another process has locked {} for {patience:?}: end it", path.display())
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("lock {}", path.display()));
                }
            }
        }
    }
}

/// Which file a connection has open, to see whether its path still leads there.
///
/// SQLite goes on writing into a file that was deleted or exchanged: those changes would be gone at the next start.
pub(super) struct OpenFile {
    path: PathBuf,
    file: (u64, u64),
}

impl OpenFile {
    /// The file that is at `path` now.
    pub(super) fn of(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), file: Self::at(path)? })
    }

    fn at(path: &Path) -> Result<(u64, u64)> {
        let found = fs::metadata(path).with_context(|| format!("look for {}", path.display()))?;
        Ok((found.dev(), found.ino()))
    }

    /// Whether it is still there: a look costs a microsecond.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            Self::at(&self.path).is_ok_and(|file| file == self.file),
            "database {} was deleted or exchanged while this daemon has it open: put it back, or restart both daemons",
            self.path.display()
        );
        Ok(())
    }
}

pub(super) fn open_for_reading(path: &Path) -> Result<Connection> {
    ensure!(
        path.exists(),
        "there is no such file: give the path of ciao's database, or start ciao-ipam or ciao-net once"
    );
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(explain)?;
    configure(&conn)?;
    Ok(conn)
}

fn configure(conn: &Connection) -> Result<()> {
    conn.busy_timeout(BUSY).map_err(explain)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // A plan must not depend on the values bound to it: else every use of a cached statement compiles it anew.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(explain)?;
    // The default page cache of 2 MB for each connection is more than a busy host's whole database.
    conn.pragma_update(None, "cache_size", -512).map_err(explain)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
