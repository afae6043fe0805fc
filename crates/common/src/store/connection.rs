//! Opening the file, its settings, its version, and SQLite's errors as sentences for an administrator.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// One script for each step from version N to N + 1, the first from an empty file.
const STEPS: [&str; 3] = [include_str!("schema.sql"), include_str!("schema-2.sql"), include_str!("schema-3.sql")];

/// The schema's version that this program reads and writes.
pub(crate) const VERSION: i64 = STEPS.len() as i64;

/// How long a statement waits for the other daemon, or for an administrator's open transaction. Shorter than the
/// time in which a call must be answered.
const BUSY: Duration = Duration::from_secs(3);

/// Statements kept prepared on each connection: all that a daemon has.
const STATEMENTS: usize = 128;

pub(super) fn open_for_writing(path: &Path) -> Result<Connection> {
    let mut conn = Connection::open(path).map_err(explain)?;
    configure(&conn)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(explain)?;
    if !mode.eq_ignore_ascii_case("wal") {
        bail!("the filesystem does not support SQLite's WAL (journal mode stays {mode}): put the file on a local disk");
    }
    conn.pragma_update(None, "synchronous", "FULL").map_err(explain)?;
    conn.pragma_update(None, "foreign_keys", true).map_err(explain)?;
    migrate(&mut conn)?;
    Ok(conn)
}

/// Which file a connection has open, to see whether its path still leads there.
///
/// SQLite goes on writing into a file that was deleted or exchanged: those changes would be gone at the next start.
pub(super) struct Place {
    path: PathBuf,
    file: (u64, u64),
}

impl Place {
    /// The file that is open by now.
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

/// Steps the schema to [`VERSION`] in one transaction. Both daemons may try at once: the second finds it done.
fn migrate(conn: &mut Connection) -> Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    let found = version(&transaction)?;
    refuse_newer(found)?;
    for (step, script) in (1..).zip(STEPS).skip(usize::try_from(found)?) {
        transaction.execute_batch(script).map_err(explain)?;
        transaction.pragma_update(None, "user_version", step).map_err(explain)?;
    }
    transaction.commit().map_err(explain)
}

/// Whether this program can read the file as it is.
pub(super) fn check_version(conn: &Connection) -> Result<()> {
    let found = version(conn)?;
    refuse_newer(found)?;
    if found < VERSION {
        bail!("the schema is version {found}, older than this program's {VERSION}: start ciao-net and ciao-ipam once");
    }
    Ok(())
}

fn refuse_newer(found: i64) -> Result<()> {
    if found > VERSION {
        bail!(
            "the schema is version {found}, this program knows versions up to {VERSION}: install the newer ciao \
             again, or restore the backup from before its installation"
        );
    }
    Ok(())
}

fn version(conn: &Connection) -> Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(explain)
}

/// SQLite's error with what to do about it.
pub(super) fn explain(error: rusqlite::Error) -> Error {
    // Its text alone: its own source says the same again.
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
            "the file is damaged or no ciao database: stop both daemons, keep a copy, and restore a backup"
        }
        Some(ErrorCode::CannotOpen) => {
            "the file cannot be opened: check that its folder exists, who may read and write there, and that the disk is mounted read-write"
        }
        Some(ErrorCode::SystemIoFailure) => "the disk failed: see the kernel's log",
        _ => return cause,
    };
    cause.context(advice)
}
