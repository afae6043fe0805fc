// SPDX-License-Identifier: Apache-2.0
//! What a change or a query gets: access to the tables.

use rusqlite::Connection;

/// A transaction, or a consistent view for reading. Its methods are in the files of the tables.
pub struct Tx<'a> {
    pub(crate) conn: &'a Connection,
}
