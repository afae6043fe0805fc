// SPDX-License-Identifier: Apache-2.0
//! Docker's plugin protocol, version 1.2, as Rust types.
//!
//! The engine sends `POST /Driver.Method` with JSON, without a Content-Type, and with an empty body if a method takes
//! no argument. Request types accept the variations between engines (a value that is `""`, `null` or missing; keys
//! added by newer engines) and refuse invalid values with an error that quotes them. Replies use the engine's key
//! names.
//!
//! Sources: `libnetwork/docs/remote.md` and `ipam.md` in Moby, and recorded requests of engines 20.10, 26.1 and 28.5.

pub mod endpoint;
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::endpoint::CreateEndpoint;
    use super::network::CreateNetwork;
    use super::parse;

    #[test]
    fn an_array_is_refused_where_an_object_is_expected() {
        let subnet = json!({ "AddressSpace": "local", "Pool": "10.0.0.0/24", "AuxAddresses": null });
        let create = |key: &str, data: Value| {
            let body = json!({ "NetworkID": "n", key: data }).to_string();
            parse::<CreateNetwork>(body.as_bytes()).map(|create| create.ipv4_data.len() + create.ipv6_data.len())
        };
        for key in ["IPv4Data", "IPv6Data"] {
            assert_eq!(create(key, json!([subnet])).unwrap(), 1);
            assert_eq!((create(key, json!(null)).unwrap(), create(key, json!([])).unwrap()), (0, 0));
            let with = |field: &str, value: Value| {
                let mut subnet = subnet.clone();
                subnet[field] = value;
                json!([subnet])
            };
            for wrong in [
                json!([[]]),
                json!([["local", "10.0.0.0/24"]]),
                json!([subnet, ["local", "10.0.1.0/24", "", {}]]),
                json!([null]),
                with("AuxAddresses", json!([])),
                with("Pool", json!([])),
                with("Gateway", json!([])),
                with("AddressSpace", json!([])),
            ] {
                let error = create(key, wrong.clone()).expect_err(&wrong.to_string()).to_string();
                assert!(error.contains("invalid type: ") && !error.contains(" line "), "{wrong}: {error}");
            }
        }
        for key in ["Interface", "Options"] {
            let body = json!({ "NetworkID": "n", "EndpointID": "e", key: [] }).to_string();
            assert!(parse::<CreateEndpoint>(body.as_bytes()).is_err(), "{key}");
        }
    }
}
