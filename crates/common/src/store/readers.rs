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

    /// An idle connection, a new one, or the next one returned. It returns to the pool when it is dropped.
    pub(super) fn take(&self) -> Result<impl Deref<Target = Connection>> {
        let mut state = lock(&self.state);
        let conn = loop {
            if let Some(conn) = state.idle.pop() {
                break conn;
            }
            if state.opened < MOST {
                state.opened += 1;
                drop(state);
                break self.open()?;
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        Ok(scopeguard::guard(conn, |conn| {
            lock(&self.state).idle.push(conn);
            self.returned.notify_one();
        }))
    }

    fn open(&self) -> Result<Connection> {
        connection::open_for_reading(&self.path).context("open database for reading").inspect_err(|_| {
            lock(&self.state).opened -= 1;
            self.returned.notify_one();
        })
    }
}
