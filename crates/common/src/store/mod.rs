// SPDX-License-Identifier: Apache-2.0
//! The one SQLite file that both daemons keep their records in.
//!
//! **Persistence.** WAL with `synchronous=FULL`: when [`Store::write`] has returned, the change survives a power cut.
//!
//! **Updating.** All changes of a daemon go through one thread, [`writer`]. It takes whatever requests are waiting, runs
//! each in its own savepoint, commits once, and then answers them all, so many clients share one `fsync` and a failing
//! request undoes only itself. SQLite serializes the two daemons' writers.
//!
//! **Reading.** Readers have their own connections and see the last commit. A decision that a change depends on is
//! read inside the change.
//!
//! **Interface.** A change is a closure over a [`Tx`], whose methods are grouped by table in the files beside this one:
//! absence is an `Option` or `bool`, so no caller looks inside an error.
//!
//! **Not supported**: a file on a network filesystem (WAL needs shared memory), two daemons of one kind on one file
//! (the daemon's lock refuses that), foreign keys between the tables of the two daemons.

mod address;
mod claim;
mod connection;
mod endpoint;
mod file;
mod free;
mod gateway;
mod host_setting;
mod network;
mod pool;
mod readers;
mod route;
mod schema;
mod setting;
mod term;
mod tx;
mod unclaimed;
mod uplink;
mod vacancy;
mod value;
mod vnic;
mod words;
mod writer;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rusqlite::Connection;

pub use crate::types::Scope;
pub use address::{AddressKind, Held, LeaseRow};
pub use endpoint::{Endpoint, EndpointRow};
pub use host_setting::HostSettingRow;
pub use network::{Network, NetworkRow, NetworkSubnet, Route};
pub use pool::{Pool, PoolRow, PoolSet};
pub use term::Term;
pub use tx::Tx;
pub use uplink::{Port, Protocol, Uplink};
pub use vnic::{Owner, Vnic, VnicRow};
pub use words::{Egress, Egress6, VnicPolicy};
pub use writer::Answer;

use readers::Readers;
use writer::Writer;

/// The store. Cheap to share behind an `Arc`.
pub struct Store {
    path: PathBuf,
    // Dropped before the writer: the last connection to be closed removes the log, and a reading one cannot.
    readers: Readers,
    writer: Writer,
}

impl Store {
    /// Opens the file, made with its folder if it is not there, and brings its schema to this version.
    ///
    /// # Errors
    /// A sentence for the administrator: no permission, not a database, from a newer version, locked.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("make folder {}", folder.display()))?;
        }
        let opened = || -> Result<Self> {
            let writer = Writer::start(connection::open_for_writing(path)?, connection::OpenFile::of(path)?)?;
            Ok(Self { path: path.to_owned(), readers: Readers::new(path.to_owned()), writer })
        };
        opened().with_context(|| format!("open database {}", path.display()))
    }

    /// Opens an existing file for reading, as the command line does beside the daemons.
    ///
    /// # Errors
    /// No such file, no permission, not a database, another version.
    pub fn open_reading(path: &Path) -> Result<Reader> {
        let opened = connection::open_for_reading(path).and_then(|conn| {
            schema::check_version(&conn)?;
            Ok(Reader { conn })
        });
        opened.with_context(|| format!("open database {}", path.display()))
    }

    /// Runs `change` in a transaction and returns its value once it is on the disk. An error undoes it.
    ///
    /// # Errors
    /// That of `change`, or of the disk: then nothing was changed.
    pub fn write<T, F>(&self, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.begin(change).wait()
    }

    /// As [`Self::write`], for a caller with something else to do meanwhile.
    pub fn begin<T, F>(&self, change: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.writer.begin(change, false)
    }

    /// As [`Self::begin`], but a change whose turn has not come when nobody awaits it any more is not made: its caller
    /// would never learn of it.
    pub fn begin_while_awaited<T, F>(&self, change: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.writer.begin(change, true)
    }

    /// Waits until every change that was begun before is on the disk, or has failed, so that a reader sees it.
    ///
    /// # Errors
    /// The disk's.
    pub fn settle(&self) -> Result<()> {
        self.write(|_| Ok(()))
    }

    /// Runs `query` on one consistent view of the last commit.
    ///
    /// # Errors
    /// That of `query`, or of the disk.
    pub fn read<T>(&self, query: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        reading(&*self.readers.take()?, query)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A reading connection of a process that never writes.
pub struct Reader {
    conn: Connection,
}

impl Reader {
    /// Runs `query` on one consistent view of the last commit.
    ///
    /// # Errors
    /// That of `query`, or of the disk.
    pub fn read<T>(&self, query: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        reading(&self.conn, query)
    }
}

fn reading<T>(conn: &Connection, query: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
    let transaction = conn.unchecked_transaction().map_err(file::explain)?;
    let result = query(&Tx { conn });
    transaction.finish().map_err(file::explain)?;
    result
}

/// The time of now as the store keeps it: milliseconds since 1970, UTC.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
