// SPDX-License-Identifier: Apache-2.0
//! What reads and writes Docker's JSON, for every type of request.

use ciao_common::api::{self, endpoint, ipam, network};
use ciao_netdriver::launcher::VnicRequest;
use ciao_netdriver::reconcile::Known;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A body for each type of request: what can be read can be written, and read again as the same.
pub fn bodies(input: &[u8]) {
    same::<ipam::RequestPool>(input);
    same::<ipam::ReleasePool>(input);
    same::<ipam::RequestAddress>(input);
    same::<ipam::ReleaseAddress>(input);
    same::<network::CreateNetwork>(input);
    same::<network::NetworkRef>(input);
    same::<endpoint::CreateEndpoint>(input);
    same::<endpoint::EndpointRef>(input);
    same::<endpoint::SandboxRequest>(input);
    same::<endpoint::PortBinding>(input);
    same::<network::Discovery>(input);
    same::<VnicRequest>(input);
    same::<Known>(input);
    if let Ok(request) = api::parse::<VnicRequest>(input) {
        drop(request.checked());
    }
}

fn same<T: Serialize + DeserializeOwned>(input: &[u8]) {
    match api::parse::<T>(input) {
        Err(error) => assert!(!format!("{error:#}").trim().is_empty()),
        Ok(value) => {
            let written = serde_json::to_value(&value).expect("what was read can be written");
            let text = serde_json::to_vec(&written).expect("it is JSON");
            let again = api::parse::<T>(&text).unwrap_or_else(|error| panic!("{written} cannot be read: {error:#}"));
            assert_eq!(written, serde_json::to_value(&again).expect("as before"));
        }
    }
}
