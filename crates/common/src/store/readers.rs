// SPDX-License-Identifier: Apache-2.0
//! A few reading connections that many threads share.
//!
//! Opening one costs more than most reads, and each has a cache of its own; so there are few, and who finds none free
//! waits for one: a read takes microseconds.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::{Context, Result};
use rusqlite::Connection;

use super::connection;

/// How many there are at most. More than cores help little.
const MOST: usize = 4;

pub(super) struct Readers {
    path: PathBuf,
    state: Mutex<State>,
    given: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    opened: usize,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: Mutex::default(), given: Condvar::new() }
    }

    /// An idle connection, a new one, or the next that is given back.
    pub(super) fn take(&self) -> Result<Taken<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(conn) = state.idle.pop() {
                return Ok(Taken { readers: self, conn: Some(conn) });
            }
            if state.opened < MOST {
                state.opened += 1;
                drop(state);
                return self.open();
            }
            state = self.given.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self) -> Result<Taken<'_>> {
        match connection::open_for_reading(&self.path) {
            Ok(conn) => Ok(Taken { readers: self, conn: Some(conn) }),
            Err(error) => {
                self.state.lock().unwrap_or_else(PoisonError::into_inner).opened -= 1;
                self.given.notify_one();
                Err(error).context("open database for reading")
            }
        }
    }
}

/// A connection that goes back when it is dropped, whatever happened to who took it.
pub(super) struct Taken<'a> {
    readers: &'a Readers,
    conn: Option<Connection>,
}

impl Deref for Taken<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn.as_ref().expect("taken until dropped")
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.readers.state.lock().unwrap_or_else(PoisonError::into_inner).idle.extend(self.conn.take());
        self.readers.given.notify_one();
    }
}
