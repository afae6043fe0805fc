// SPDX-License-Identifier: Apache-2.0
//! `/v1/reconcile`, and `/v1/records`, what is recorded of Docker's.

use anyhow::Result;
use ciao_common::serve::server::{BODY_LIMIT, Reply};
use serde_json::Value;

use super::query::Query;
use super::reply::{Failure, json};
use crate::Driver;
use crate::reconcile::{Depth, Known};

/// Bytes of Docker's networks in one request: ids have the rest.
const DETAILS: usize = BODY_LIMIT / 2;

/// The bodies of the requests that give the daemon Docker's lists: networks in as many as it takes, then all ids.
///
/// # Errors
/// None that is known.
pub fn requests(mut known: Known) -> Result<Vec<Value>> {
    let mut parts = Vec::<Known>::new();
    let mut size = 0;
    for network in std::mem::take(&mut known.details) {
        let bytes = serde_json::to_vec(&network)?.len();
        size += bytes;
        match parts.last_mut() {
            Some(part) if size <= DETAILS => part.details.push(network),
            _ => {
                size = bytes;
                parts.push(Known { endpoints: None, details: vec![network], more: true, ..known.clone() });
            }
        }
    }
    parts.push(known);
    Ok(parts.iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}

pub(super) fn recorded(driver: &Driver) -> Result<Reply, Failure> {
    json(200, &driver.recorded()?)
}

pub(super) fn run(driver: &Driver, body: &[u8], query: &Query) -> Result<Reply, Failure> {
    let depth = if query.dry_run { Depth::DryRun } else { Depth::Full };
    let known: Option<Known> =
        if body.is_empty() { None } else { ciao_common::api::parse(body).map_err(Failure::bad_request)? };
    json(
        200,
        &match known {
            Some(known) => driver.reconcile_with(depth, known, query.force).map_err(Failure::conflict)?,
            None => driver.reconcile(depth),
        },
    )
}
