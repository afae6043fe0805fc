// SPDX-License-Identifier: Apache-2.0
//! `/v1/vnics`.

use std::sync::Arc;

use ciao_common::serve::routes::{Ask, Failure, Route, json};
use ciao_common::serve::server::Reply;
use ciao_common::types::{InstanceId, TenantId, VnicId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::Driver;
use crate::launcher::{Change, Creation, Deletion, DeletionReply, VnicChange, VnicReply, VnicRequest};

/// Which VNICs.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VnicQuery {
    /// Limit the list to this tenant.
    tenant: Option<TenantId>,
    /// Limit the list to this instance.
    instance: Option<InstanceId>,
}

/// How to delete a VNIC.
#[derive(Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeleteQuery {
    /// Delete it even if a running container uses it.
    force: bool,
}

pub(super) fn routes() -> Vec<Route<Arc<Driver>>> {
    vec![
        Route::get("/v1/vnics", "listVnics", "List VNICs of launchers and of Docker.", list)
            .query::<VnicQuery>()
            .list::<VnicReply>("Oldest first."),
        Route::post(
            "/v1/vnics",
            "createVnic",
            "Create a VNIC. Idempotent: a repeated request returns the same VNIC.",
            create,
        )
        .body::<VnicRequest>()
        .reply::<VnicReply>(201, "Created.")
        .reply::<VnicReply>(200, "It exists already.")
        .fails(&[409, 422]),
        Route::get("/v1/vnics/{id}", "showVnic", "Show a VNIC.", show)
            .parameter::<VnicId>("ID of the VNIC.")
            .reply::<VnicReply>(200, "The VNIC.")
            .fails(&[404]),
        Route::patch(
            "/v1/vnics/{id}",
            "changeVnic",
            "Change the rate limit and the additional addresses of a VNIC, while it is in use.",
            change,
        )
        .parameter::<VnicId>("ID of the VNIC.")
        .body::<VnicChange>()
        .reply::<VnicReply>(200, "The changed VNIC.")
        .fails(&[404, 409, 422]),
        Route::delete(
            "/v1/vnics/{id}",
            "deleteVnic",
            "Delete a VNIC and its address reservation. An unknown VNIC is not an error.",
            delete,
        )
        .parameter::<VnicId>("ID of the VNIC.")
        .query::<DeleteQuery>()
        .reply::<DeletionReply>(200, "Deleted, now or before.")
        .fails(&[409]),
    ]
}

fn create(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let request: VnicRequest = ask.body()?;
    match driver.create_vnic(request.checked().map_err(Failure::contradiction)?)? {
        Creation::Created(vnic) => json(201, &vnic),
        Creation::Existing(vnic) => json(200, &vnic),
        Creation::Conflict(sentence) => Err(Failure(409, sentence)),
    }
}

fn list(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let VnicQuery { tenant, instance } = ask.query()?;
    json(200, &driver.list_vnics(tenant.as_ref(), instance.as_ref())?)
}

fn show(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let found = id(ask).map_or(Ok(None), |id| driver.show_vnic(&id))?;
    json(200, &found.ok_or_else(|| unknown(ask))?)
}

fn change(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let change: VnicChange = ask.body()?;
    let allowed = change.allowed().map_err(Failure::contradiction)?;
    let Ok(id) = id(ask) else { return Err(unknown(ask)) };
    match driver.set_vnic(&id, change.rate, allowed)? {
        Change::Changed(vnic) => json(200, &vnic),
        Change::Unknown => Err(unknown(ask)),
        Change::Conflict(sentence) => Err(Failure(409, sentence)),
    }
}

fn delete(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let DeleteQuery { force } = ask.query()?;
    match driver.delete_vnic(&id(ask)?, force)? {
        Deletion::Deleted(reply) => json(200, &reply),
        Deletion::InUse(sentence) => Err(Failure(409, sentence)),
    }
}

fn id(ask: &Ask<'_>) -> Result<VnicId, Failure> {
    ask.parameter().parse().map_err(Failure::bad_request)
}

fn unknown(ask: &Ask<'_>) -> Failure {
    Failure(404, format!("VNIC {} is unknown: see \"ciao-net vnic list\"", ask.parameter()))
}
