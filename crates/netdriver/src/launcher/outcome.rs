// SPDX-License-Identifier: Apache-2.0
//! What becomes of a launcher's requests.

use super::request::{DeletionReply, VnicReply};

/// The outcome of a request for a VNIC.
pub enum Creation<T> {
    /// It was created.
    Created(T),
    /// The same one exists.
    Existing(T),
    /// It contradicts something that exists: a sentence.
    Conflict(String),
}

/// The outcome of a request to change a VNIC.
pub enum Change {
    /// It is as requested.
    Changed(Box<VnicReply>),
    /// There is no such VNIC.
    Unknown,
    /// It contradicts something that exists: a sentence.
    Conflict(String),
}

/// The outcome of a request to delete a VNIC.
pub enum Deletion {
    /// It is deleted, now or before.
    Deleted(DeletionReply),
    /// A running container has it: a sentence.
    InUse(String),
}
