// SPDX-License-Identifier: Apache-2.0
//! Transactions.

use rusqlite::Connection;

/// A transaction, or a snapshot for reading. Its methods are in the files of the tables.
pub struct Tx<'a> {
    pub(crate) conn: &'a Connection,
}
