// SPDX-License-Identifier: Apache-2.0
//! A pool of read-only connections, shared by all threads.
//!
//! Opening one costs more than most reads, and each has a cache of its own, so there are few. A thread that finds none
//! idle waits for one: a read takes microseconds.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::{Context, Result};
use rusqlite::Connection;

use super::connection;
use crate::sync::lock;

/// Maximum number of connections. More than cores help little.
const MOST: usize = 4;

pub(super) struct Readers {
    path: PathBuf,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    opened: usize,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: Mutex::default(), returned: Condvar::new() }
    }

    /// An idle connection, a new one, or the next one returned.
    pub(super) fn take(&self) -> Result<PooledConnection<'_>> {
        let mut state = lock(&self.state);
        loop {
            if let Some(conn) = state.idle.pop() {
                return Ok(PooledConnection { readers: self, conn: Some(conn) });
            }
            if state.opened < MOST {
                state.opened += 1;
                drop(state);
                return self.open();
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self) -> Result<PooledConnection<'_>> {
        match connection::open_for_reading(&self.path) {
            Ok(conn) => Ok(PooledConnection { readers: self, conn: Some(conn) }),
            Err(error) => {
                lock(&self.state).opened -= 1;
                self.returned.notify_one();
                Err(error).context("open database for reading")
            }
        }
    }
}

/// A connection that returns to the pool when dropped.
pub(super) struct PooledConnection<'a> {
    readers: &'a Readers,
    conn: Option<Connection>,
}

impl Deref for PooledConnection<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn.as_ref().expect("present until dropped")
    }
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        lock(&self.readers.state).idle.extend(self.conn.take());
        self.readers.returned.notify_one();
    }
}
