// SPDX-License-Identifier: Apache-2.0
//! `/v1/reconcile`, and `/v1/records`, what is recorded of Docker's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ciao_common::api::listing::ListedNetwork;
use ciao_common::serve::routes::{Ask, Failure, Route, json};
use ciao_common::serve::server::{BODY_LIMIT, Reply};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::Driver;
use crate::reconcile::{Depth, Known, Recorded, Repair};

/// How long a reconcile may take to be answered: it checks every network of the host, and an administrator can wait.
pub const RECONCILE_WITHIN: Duration = Duration::from_secs(120);

/// How to reconcile.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct ReconcileQuery {
    /// Return the changes without making them.
    dry_run: bool,
    /// Accept a list of another engine, or one without any recorded network. Records of running containers are kept in
    /// any case.
    force: bool,
    /// Give up what has no record, after a reconcile with Docker's lists could not record it: links and uplinks are
    /// deleted, also those of running containers. Without Docker's lists.
    give_up: bool,
}

/// Bytes of Docker's networks in one request: ids have the rest.
const DETAILS: usize = BODY_LIMIT / 2;

/// The bodies of the requests that give the daemon Docker's lists: networks in as many as it takes, then all ids.
///
/// # Errors
/// None that is known.
pub fn requests(mut known: Known) -> Result<Vec<Known>> {
    let mut parts = Vec::<Known>::new();
    let mut size = 0;
    for network in std::mem::take(&mut known.details) {
        let bytes = serde_json::to_vec(&network)?.len();
        size += bytes;
        match parts.last_mut() {
            Some(part) if size <= DETAILS || (size <= DETAILS * 3 / 2 && is_like_last(part, &network)) => {
                part.details.push(network);
            }
            _ => {
                size = bytes;
                parts.push(Known { endpoints: None, details: vec![network], more: true, ..known.clone() });
            }
        }
    }
    parts.push(known);
    parts[0].first = true;
    Ok(parts)
}

/// Whether a network has a subnet of the last one of a part: which pool is whose shows only beside each other.
fn is_like_last(part: &Known, network: &ListedNetwork) -> bool {
    let subnets = |network: &ListedNetwork| network.ipam.config.iter().map(|config| config.subnet).collect::<Vec<_>>();
    part.details.last().is_some_and(|last| subnets(last).iter().any(|subnet| subnets(network).contains(subnet)))
}

pub(super) fn routes() -> Vec<Route<Arc<Driver>>> {
    vec![
        Route::get(
            "/v1/records",
            "showRecords",
            "The IDs of Docker's networks and endpoints that are recorded.",
            recorded,
        )
        .reply::<Recorded>(200, "What is recorded."),
        Route::post("/v1/reconcile", "reconcile", "Reconcile the database with the kernel.", run)
            .query::<ReconcileQuery>()
            .optional_body::<Known>(
                "Docker's lists: records of other networks and endpoints are removed, except those of running \
                 containers, and lost ones are made again. Where a body would be larger than 1 MiB, the networks come in \
                 several requests with more=true, which remove nothing, and the last request has no details.",
            )
            .list::<Repair>("The changes.")
            .fails(&[409, 422])
            .within(RECONCILE_WITHIN),
    ]
}

fn recorded(driver: &Arc<Driver>, _: &Ask<'_>) -> Result<Reply, Failure> {
    json(200, &driver.recorded()?)
}

fn run(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let query: ReconcileQuery = ask.query()?;
    let depth = if query.dry_run { Depth::DryRun } else { Depth::Full };
    let done = match (ask.body_if_any::<Known>()?, query.give_up) {
        (Some(_), true) => {
            let sentence =
                "give_up is for what Docker's lists could not record: reconcile with them first, then without";
            return Err(Failure::contradiction(anyhow!(sentence)));
        }
        (Some(known), false) => driver.reconcile_with(depth, known, query.force).map_err(Failure::conflict)?,
        (None, true) => driver.give_up(depth)?,
        (None, false) => driver.reconcile(depth),
    };
    json(200, &done)
}
