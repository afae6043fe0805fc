// SPDX-License-Identifier: Apache-2.0
//! Docker's plugin protocol, version 1.2, as Rust types.
//!
//! The engine sends `POST /Driver.Method` with JSON, without a Content-Type, and with an empty body if a method takes no
//! argument. Request types accept the variations between engines (a value that is `""`, `null` or missing; keys added by
//! newer engines) and refuse invalid values with an error that quotes them. Replies use the engine's key names.
//!
//! Sources: `libnetwork/docs/remote.md` and `ipam.md` in Moby, and recorded requests of engines 20.10, 26.1 and 28.5.

pub mod go;
pub mod ipam;
pub mod listing;
pub mod network;

use serde::{Deserialize, Serialize};

/// The content type of the engine's requests and of our replies.
pub const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// A request or reply without content: the engine sends no body, and accepts `{}`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Empty {}

/// Reply of `Plugin.Activate`: the plugin's interfaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Manifest {
    /// `NetworkDriver` or `IpamDriver`.
    pub implements: Vec<String>,
}

/// An error reply. The engine reads `Err` in every reply whose status is not 200.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ErrorReply {
    /// The error message, which the user sees.
    pub err: String,
}

/// Parses the body of a request.
///
/// # Errors
/// Names the field and the value.
pub fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    // serde reads an array as the fields of a struct, in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        anyhow::bail!("invalid type: array, expected an object");
    }
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        if error.is_data() {
            // The position in the body does not help a user who typed an option.
            let sentence = text.rsplit_once(" at line ").map_or(text.as_str(), |(head, _)| head);
            anyhow::anyhow!("{sentence}")
        } else {
            anyhow::anyhow!("the request body is not JSON: {text}")
        }
    })
}
