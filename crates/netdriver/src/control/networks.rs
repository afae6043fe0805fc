// SPDX-License-Identifier: Apache-2.0
//! `/v1/networks`.

use std::sync::Arc;

use ciao_common::serve::routes::{Ask, Failure, json};
use ciao_common::serve::server::Reply;

use super::show::describe;
use crate::Driver;

/// The network whose ID begins with `prefix`.
pub(super) fn show(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
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
