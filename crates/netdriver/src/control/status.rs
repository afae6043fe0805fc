// SPDX-License-Identifier: Apache-2.0
//! `/v1/status`: how the daemon stands, on one screen.

use std::sync::Arc;

use ciao_common::serve::metrics::Problem;
use ciao_common::serve::routes::{Ask, Failure, Route, json};
use ciao_common::serve::server::Reply;
use ciao_common::sync::lock;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Driver;

/// Status of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Status)]
pub struct StatusReply {
    /// Path of the database.
    pub database: String,
    /// Tenants.
    pub tenants: i64,
    /// Docker networks.
    pub networks: i64,
    /// Containers' attachments.
    pub endpoints: i64,
    /// VNICs of launchers.
    pub launcher_vnics: i64,
    /// VNICs of Docker.
    pub docker_vnics: i64,
    /// Published ports.
    pub ports: i64,
    /// Seconds since the last pass of reconciliation without a failure; absent: there was none.
    pub reconciled_seconds_ago: Option<i64>,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

pub(super) fn routes() -> Vec<Route<Arc<Driver>>> {
    vec![
        Route::get("/v1/status", "showStatus", "Counts, and problems with their remedies.", show)
            .reply::<StatusReply>(200, "Status of the daemon."),
    ]
}

fn show(driver: &Arc<Driver>, _: &Ask<'_>) -> Result<Reply, Failure> {
    let (counts, tenants) = driver.store.read(|tx| Ok((tx.attachment_counts()?, tx.tenant_count()?)))?;
    let [networks, endpoints, launcher_vnics, docker_vnics, ports] = counts;
    let good = lock(&driver.passes).last_good;
    json(
        200,
        &StatusReply {
            database: driver.store.path().display().to_string(),
            tenants,
            networks,
            endpoints,
            launcher_vnics,
            docker_vnics,
            ports,
            reconciled_seconds_ago: (good > 0).then(|| (driver.store.now() - good) / 1000),
            problems: driver.problems(),
        },
    )
}
