// SPDX-License-Identifier: Apache-2.0
//! Replies and errors as JSON.

use anyhow::Error;
use ciao_common::serve::server::{JSON, Reply};
use serde::{Deserialize, Serialize};

/// An error's reply.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorReply {
    /// What went wrong.
    pub error: String,
}

/// A request that failed: status and error.
pub(super) struct Failure(pub(super) u16, pub(super) String);

impl Failure {
    pub(super) fn bad_request(error: Error) -> Self {
        Self(400, format!("{error:#}"))
    }

    pub(super) fn conflict(error: Error) -> Self {
        Self(409, format!("{error:#}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(500, format!("{error:#}"))
    }
}

/// A reply.
pub(super) fn json(status: u16, value: &impl Serialize) -> Result<Reply, Failure> {
    let body = serde_json::to_vec(value).map_err(|error| {
        Failure(500, format!("internal error (please report): the reply cannot be written: {error}"))
    })?;
    Ok(Reply { status, content_type: JSON, body })
}

/// An error's reply.
pub(super) fn refuse(status: u16, text: &str) -> Reply {
    Reply::json(status, JSON, &ErrorReply { error: text.to_owned() })
}
