// SPDX-License-Identifier: Apache-2.0
//! `/v1/vnics`.

use ciao_common::serve::server::Reply;

use super::query::Query;
use super::reply::{Failure, json};
use crate::Driver;
use crate::launcher::{Creation, Deletion, VnicChange, VnicRequest};

pub(super) fn create(driver: &Driver, body: &[u8]) -> Result<Reply, Failure> {
    let request = ciao_common::api::parse::<VnicRequest>(body).and_then(VnicRequest::checked);
    match driver.create_vnic(request.map_err(Failure::bad_request)?)? {
        Creation::Created(vnic) => json(201, &vnic),
        Creation::Existing(vnic) => json(200, &vnic),
        Creation::Conflict(sentence) => Err(Failure(409, sentence)),
    }
}

pub(super) fn list(driver: &Driver, query: &Query) -> Result<Reply, Failure> {
    json(200, &driver.list_vnics(query.tenant.as_ref(), query.instance.as_ref())?)
}

pub(super) fn show(driver: &Driver, id: &str) -> Result<Reply, Failure> {
    let found = id.parse().map_or(Ok(None), |id| driver.show_vnic(&id))?;
    json(200, &found.ok_or_else(|| unknown(id))?)
}

pub(super) fn change(driver: &Driver, id: &str, body: &[u8]) -> Result<Reply, Failure> {
    let change: VnicChange = ciao_common::api::parse(body).map_err(Failure::bad_request)?;
    let allowed = change.allowed().map_err(Failure::bad_request)?;
    let found = id.parse().map_or(Ok(None), |id| driver.set_vnic(&id, change.rate, allowed))?;
    json(200, &found.ok_or_else(|| unknown(id))?)
}

fn unknown(id: &str) -> Failure {
    Failure(404, format!("VNIC {id} is unknown: see \"ciao-net vnic list\""))
}

pub(super) fn delete(driver: &Driver, id: &str, force: bool) -> Result<Reply, Failure> {
    match driver.delete_vnic(&id.parse().map_err(Failure::bad_request)?, force)? {
        Deletion::Deleted(reply) => json(200, &reply),
        Deletion::InUse(sentence) => Err(Failure(409, sentence)),
    }
}
