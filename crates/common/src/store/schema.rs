// SPDX-License-Identifier: Apache-2.0
//! Owner and version of the file, and its conversion to this version.
//!
//! A new file is created from `schema.sql`. An older one is backed up and converted by the scripts `schema-N.sql`. A
//! newer one is used as it is if the program that converted it recorded that this version is compatible, so that the
//! two daemons can be upgraded one after the other.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::file::{beside, explain};

/// All tables, for a new file.
const TABLES: &str = include_str!("schema.sql");
/// The views, created again with each new version.
const VIEWS: &str = include_str!("views.sql");
/// The conversions from version N to N + 1, beginning with 1.
const STEPS: [&str; 4] = [
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
];

/// The version of this program.
pub(super) const VERSION: i64 = 1 + STEPS.len() as i64;
/// The oldest version of a program that can use a file of [`VERSION`].
const COMPATIBLE: i64 = 4;

/// `application_id` in SQLite's header: "ciao". Files up to version 3 have none.
const APPLICATION: i64 = 0x6369_616f;
/// The last version without `application_id`.
const UNMARKED: i64 = 3;

/// Kind of a file.
enum Kind {
    /// Empty.
    Empty,
    /// A ciao database of that version.
    Ciao(i64),
}

/// The kind of the file. Fails for a database of another program.
fn kind(conn: &Connection) -> Result<Kind> {
    let number = |pragma| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(explain);
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables = "SELECT group_concat(name, ', ') FROM (SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name LIMIT 5)";
    let tables: Option<String> = conn.query_row(tables, [], |row| row.get(0)).map_err(explain)?;
    let is_old = has_table(conn, "pool_set")? && has_table(conn, "network_record")?;
    match (application, version, tables) {
        (APPLICATION, 1.., _) => Ok(Kind::Ciao(version)),
        (0, 0, None) => Ok(Kind::Empty),
        (0, 1..=UNMARKED, _) if is_old => Ok(Kind::Ciao(version)),
        (_, _, tables) => bail!(
            "the file is a database of another program (application id {application:#x}, tables: {}): give the path of \
             ciao's database, or of a file that does not exist",
            tables.as_deref().unwrap_or("none")
        ),
    }
}

fn has_table(conn: &Connection, name: &str) -> Result<bool> {
    let found = conn.query_row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1", [name], |_| Ok(()));
    Ok(found.optional().map_err(explain)?.is_some())
}

/// Refuses the database of another program, before changing it.
pub(super) fn check_owner(conn: &Connection) -> Result<()> {
    kind(conn).map(drop)
}

/// Fails if the other daemon, upgraded meanwhile, has converted the file to an incompatible version.
pub(super) fn check_unchanged(conn: &Connection) -> Result<()> {
    let found = conn.prepare_cached("PRAGMA user_version").and_then(|mut s| s.query_row([], |row| row.get(0)));
    check_newer(conn, found.map_err(explain)?)
}

/// Fails if this program cannot use the file as it is.
pub(super) fn check_version(conn: &Connection) -> Result<()> {
    match kind(conn)? {
        Kind::Empty => bail!("the file is empty: start ciao-net or ciao-ipam once"),
        Kind::Ciao(found) if found < VERSION => bail!(
            "the schema is version {found}, older than this program's {VERSION}: restart ciao-net and ciao-ipam, which \
             convert it"
        ),
        Kind::Ciao(found) => check_newer(conn, found),
    }
}

/// Fails if the file is newer and this version is not compatible.
fn check_newer(conn: &Connection, found: i64) -> Result<()> {
    if found <= VERSION {
        return Ok(());
    }
    let compatible = conn
        .query_row("SELECT CAST(value AS INTEGER) FROM setting WHERE name = 'compatible'", [], |row| {
            row.get::<_, i64>(0)
        })
        .optional()
        .map_err(explain)?;
    ensure!(
        compatible.is_some_and(|oldest| oldest <= VERSION),
        "the schema is version {found}, this program supports versions up to {VERSION}: install the newer ciao again, or \
         restore the backup from before its installation"
    );
    Ok(())
}

/// Converts the file at `path` to [`VERSION`]. The caller holds its lock.
pub(super) fn migrate(conn: &mut Connection, path: &Path) -> Result<()> {
    match kind(conn)? {
        Kind::Empty => create(conn),
        Kind::Ciao(found) if found < VERSION => {
            let copy = back_up(conn, path).context("back up the database before its conversion")?;
            step(conn, found).with_context(|| format!("convert the schema from version {found} to {VERSION}"))?;
            log::info!("database converted from version {found} to {VERSION}; backup: {}", copy.display());
            Ok(())
        }
        Kind::Ciao(found) => check_newer(conn, found),
    }
}

fn create(conn: &mut Connection) -> Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    transaction.execute_batch(TABLES).map_err(explain)?;
    finish(&transaction)?;
    transaction.commit().map_err(explain)
}

fn step(conn: &mut Connection, found: i64) -> Result<()> {
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    // A table with views cannot be replaced.
    for view in [
        "pool",
        "lease",
        "network",
        "endpoint",
        "vnic",
        "port",
        "remote",
        "tunnel",
        "tenant",
        "recorded_lease",
        "vnic_lease",
        "vnic_lease6",
    ] {
        transaction.execute_batch(&format!("DROP VIEW IF EXISTS {view}")).map_err(explain)?;
    }
    for script in STEPS.iter().skip(usize::try_from(found - 1)?) {
        transaction.execute_batch(script).map_err(explain)?;
    }
    finish(&transaction)?;
    transaction.commit().map_err(explain)
}

/// Creates the views and records owner and version.
fn finish(conn: &Connection) -> Result<()> {
    conn.execute_batch(VIEWS).map_err(explain)?;
    conn.execute("INSERT OR REPLACE INTO setting (name, value) VALUES ('compatible', ?1)", [COMPATIBLE.to_string()])
        .map_err(explain)?;
    conn.pragma_update(None, "application_id", APPLICATION).map_err(explain)?;
    conn.pragma_update(None, "user_version", VERSION).map_err(explain)
}

/// Copies the file to `PATH.before-vN` atomically. A copy of an earlier attempt is replaced.
fn back_up(conn: &Connection, path: &Path) -> Result<PathBuf> {
    let (copy, part) = (beside(path, &format!(".before-v{VERSION}")), beside(path, ".part"));
    if part.exists() {
        fs::remove_file(&part).with_context(|| format!("remove {}", part.display()))?;
    }
    let target = part.to_str().with_context(|| format!("path {} is not UTF-8", part.display()))?;
    conn.execute("VACUUM INTO ?1", [target]).map_err(explain)?;
    let synced = || -> std::io::Result<()> {
        File::open(&part)?.sync_all()?;
        fs::rename(&part, &copy)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    synced().with_context(|| format!("write {}", copy.display()))?;
    Ok(copy)
}
