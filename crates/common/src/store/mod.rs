// SPDX-License-Identifier: Apache-2.0
//! The SQLite database of both daemons.
//!
//! **Durability.** WAL with `synchronous=FULL`: when [`Store::write`] has returned, the change survives a power
//! failure.
//!
//! **Writing.** All changes of a daemon go through one thread, [`writer`]. It runs all waiting changes, each in its own
//! savepoint if it can fail after it has written, commits once, and then returns all results: clients share one
//! `fsync`, and a failing change rolls back only itself. SQLite serializes the writers of the two daemons.
//!
//! **Reading.** Readers have their own connections and see the last commit. What a change depends on is read inside the
//! change.
//!
//! **Interface.** A change is a closure over a [`Tx`], whose methods are grouped by table in the files beside this one.
//! Absence is an `Option` or `bool`; no caller inspects an error.
//!
//! **Errors.** Every method that returns a `Result` fails if the database cannot be read or written, with advice for
//! the administrator. `# Errors` lists only further causes.
//!
//! **Not supported**: a file on a network filesystem (WAL needs shared memory), two daemons of one kind on one file
//! (excluded by a lock), foreign keys between the tables of the two daemons.

mod absence;
mod address;
mod assign;
mod bridge;
mod clock;
mod connection;
mod endpoint;
mod event;
mod file;
mod free;
mod gateway;
mod host_port;
mod host_setting;
mod launcher;
mod memory;
mod network;
mod pairing;
mod peer;
mod pending;
mod pool;
mod pool_set;
mod readers;
mod remote;
mod route;
mod schema;
mod setting;
mod stats;
mod tenant;
mod tenant_subnet;
mod term;
mod tunnel;
mod tx;
mod unclaimed;
mod uplink;
mod vacancy;
mod value;
mod view;
mod vni;
mod vnic;
mod words;
mod writer;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rusqlite::Connection;

pub use crate::types::Scope;
pub use absence::Absence;
pub use address::AddressRecord;
pub use endpoint::Endpoint;
pub use event::{EVENTS_KEPT, EventLog, EventPage};
pub use host_port::HostPort;
pub use host_setting::HostSettingRow;
pub use network::{Network, NetworkSubnet, Route};
pub use peer::{HostEndpoint, PeerList, PeerRemote, list_of_endpoints};
pub use pending::Answer;
pub use pool::Pool;
pub use pool_set::PoolSet;
pub use remote::{ClusterHost, Given, ListState, Remote, TenantList};
pub use stats::SetUse;
pub use tenant_subnet::TenantSubnet;
pub use term::Term;
pub use tunnel::Tunnel;
pub use tx::Tx;
pub use uplink::{Port, Uplink};
pub use view::{Cursor, ENDPOINTS, LEASES, List, NETWORKS, POOLS, PORTS};
pub use vnic::Vnic;
pub use words::{AddressKind, Egress, Egress6, Owner, Protocol, VnicPolicy};
pub use writer::{Commits, Committed};

use clock::Clock;
use memory::Memory;
use readers::Readers;
use writer::Writer;

/// The store; shared behind an `Arc`.
pub struct Store {
    path: PathBuf,
    // Dropped before the writer: the last connection to be closed removes the log, which a reader cannot.
    readers: Readers,
    writer: Writer,
    clock: Clock,
}

impl Store {
    /// Opens the file and converts it to this schema version. Creates file and folder if missing.
    ///
    /// # Errors
    /// No permission, not a ciao database, from an incompatible newer version, locked.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_at(path, SystemTime::now())
    }

    /// As [`Self::open`], where the host's clock says `wall`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(path: &Path, wall: SystemTime) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("create folder {}", folder.display()))?;
        }
        let opened = || -> Result<Self> {
            let (conn, clock) = connection::open_for_writing(path, wall)?;
            let writer = Writer::start(conn, clock, connection::OpenFile::of(path)?)?;
            Ok(Self { path: path.to_owned(), readers: Readers::new(path.to_owned()), writer, clock })
        };
        opened().with_context(|| format!("open database {}", path.display()))
    }

    /// As [`Self::open`], for commands: fails if the file is missing, empty or of another version.
    pub fn open_existing(path: &Path) -> Result<Self> {
        drop(Self::open_reading(path)?);
        Self::open(path)
    }

    /// Opens an existing file for reading, for commands that run beside the daemons.
    ///
    /// # Errors
    /// No such file, no permission, not a ciao database, another version.
    pub fn open_reading(path: &Path) -> Result<Reader> {
        let opened = connection::open_for_reading(path).and_then(|conn| {
            schema::check_version(&conn)?;
            let (clock, _) = Clock::read(&conn, SystemTime::now())?;
            Ok(Reader { conn, clock })
        });
        opened.with_context(|| format!("open database {}", path.display()))
    }

    /// Runs `change` in a transaction and returns its value after the commit. An error rolls it back.
    pub fn write<T, F>(&self, change: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.begin(change).wait()
    }

    /// As [`Self::write`], without waiting for the commit.
    pub fn begin<T, F>(&self, change: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.writer.begin(change, true, false)
    }

    /// As [`Self::begin`], but skips the change if its result was dropped before it is run: the caller would not learn
    /// of it.
    pub fn begin_while_awaited<T, F>(&self, change: F) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.writer.begin(change, true, true)
    }

    /// As [`Self::begin`], for a change that refuses before it writes, or calls [`Tx::guard`] before. Others fail with
    /// one that does not.
    pub fn begin_unguarded<T, F>(&self, change: F, only_while_awaited: bool) -> Answer<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.writer.begin(change, false, only_while_awaited)
    }

    /// Waits until all changes begun before are committed or have failed, so that readers see them.
    pub fn settle(&self) -> Result<()> {
        self.write(|_| Ok(()))
    }

    /// Runs `query` on a consistent snapshot of the last commit.
    pub fn read<T>(&self, query: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        reading(&*self.readers.take()?, self.clock, query)
    }

    /// Now, in milliseconds: what records made now have.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// A time of the store by the host's clock as it is now, for what is compared with that.
    pub fn by_host_clock(&self, time: i64) -> i64 {
        clock::wall() - (self.now() - time)
    }

    /// The time of `by` before now.
    pub fn ago(&self, by: Duration) -> i64 {
        self.clock.ago(by)
    }

    /// The commits since the store was opened.
    pub fn commits(&self) -> Commits {
        *self.writer.commits().borrow()
    }

    /// The same, awaited by whoever looks for what is new.
    pub fn committed(&self) -> Committed {
        self.writer.commits().subscribe()
    }

    /// How many await them.
    pub fn followers(&self) -> usize {
        self.writer.commits().receiver_count()
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A read-only connection.
pub struct Reader {
    conn: Connection,
    clock: Clock,
}

impl Reader {
    /// Runs `query` on a consistent snapshot of the last commit.
    pub fn read<T>(&self, query: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        reading(&self.conn, self.clock, query)
    }
}

fn reading<T>(conn: &Connection, clock: Clock, query: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
    let transaction = conn.unchecked_transaction().map_err(file::explain)?;
    let result = query(&Tx { conn, clock, memory: &Memory::default(), guarded: Cell::new(true) });
    transaction.finish().map_err(file::explain)?;
    result
}

#[cfg(test)]
mod tests;
