// SPDX-License-Identifier: Apache-2.0
//! `/v1/networks`.

use std::sync::Arc;

use ciao_common::serve::routes::{Ask, Failure, Route, json};
use ciao_common::serve::server::Reply;
use ciao_common::types::NetworkId;

use super::show::{NetworkReply, describe};
use crate::Driver;

pub(super) fn routes() -> Vec<Route<Arc<Driver>>> {
    vec![
        Route::get(
            "/v1/networks/{id}",
            "showNetwork",
            "Show a Docker network with its namespace, uplink, published ports and rules.",
            show,
        )
        .parameter::<NetworkId>("Docker's ID of the network, or a prefix of it.")
        .reply::<NetworkReply>(200, "The network.")
        .fails(&[404, 409]),
    ]
}

/// The network whose ID begins with `prefix`.
fn show(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let prefix = ask.parameter();
    let mut networks = driver.store.read(|tx| tx.networks())?;
    networks.retain(|network| network.id.as_str().starts_with(prefix));
    if networks.len() > 1 {
        return Err(Failure(409, format!("prefix {prefix} matches several networks: give a longer prefix")));
    }
    let Some(network) = networks.pop() else {
        return Err(Failure(
            404,
            format!(
                "no network of ciao-net has ID prefix {prefix}: see \"ciao-net network list\". Docker sends drivers no network names; \
                 \"docker network ls\" shows both"
            ),
        ));
    };
    json(200, &describe(driver, network)?)
}
