// SPDX-License-Identifier: Apache-2.0
//! `/v1/reconcile`.

use ciao_common::serve::server::Reply;

use super::query::Query;
use super::reply::{Failure, json};
use crate::Driver;
use crate::reconcile::{Depth, Known};

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
