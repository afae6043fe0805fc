// SPDX-License-Identifier: Apache-2.0
//! Docker's plugin protocol, version 1.2, as Rust types.
//!
//! The engine sends JSON by `POST /Driver.Method` without a Content-Type, and an empty body where a method takes no
//! argument. A request type tolerates what engines differ in (a value that is `""`, `null` or not there at all; keys
//! that a newer engine adds) and refuses what is wrong, naming the value. Replies carry the engine's key names.
//!
//! Sources: `libnetwork/docs/remote.md` and `ipam.md` in Moby, and conversations recorded from engines 20.10, 26.1
//! and 28.5.

pub mod go;
pub mod ipam;
pub mod network;

use serde::{Deserialize, Serialize};

/// The content type of the engine's requests and of our replies.
pub const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// A request or reply without content: the engine sends no body, and takes `{}`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Empty {}

/// What a plugin says it is, in reply to `Plugin.Activate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Manifest {
    /// `NetworkDriver` or `IpamDriver`.
    pub implements: Vec<String>,
}

/// An error reply. The engine reads `Err` of both drivers in every reply whose status is not 200.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ErrorReply {
    /// What went wrong, as the user sees it.
    pub err: String,
}

/// A type that a request's body is read into.
///
/// # Errors
/// A sentence that names the field and the value.
pub fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        if error.is_data() {
            // Where in the body the value stood helps nobody who typed an option.
            let sentence = text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head);
            anyhow::anyhow!("{sentence}")
        } else {
            anyhow::anyhow!("the request's body is not JSON: {text}")
        }
    })
}
