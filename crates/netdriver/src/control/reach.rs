// SPDX-License-Identifier: Apache-2.0
//! `/v1/hosts/ID/mtu`: the path MTU to another host, measured.

use std::sync::Arc;

use anyhow::Result;
use ciao_common::serve::routes::{Ask, Failure, Route, json};
use ciao_common::serve::server::Reply;
use ciao_common::types::HostId;
use serde::Serialize;
use utoipa::ToSchema;

use super::reconcile::RECONCILE_WITHIN;
use crate::Driver;

/// What was measured.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PathMtu)]
pub(super) struct MtuReply {
    /// The other host.
    host: HostId,
    /// The MTU of both links in the list of hosts, in bytes.
    mtu: u32,
    /// The largest packet that was answered; absent: none was.
    carried: Option<u32>,
}

/// The smallest packet that is tried: what every link of the family carries.
const SMALLEST: [u32; 2] = [576, 1280];

pub(super) fn routes() -> Vec<Route<Arc<Driver>>> {
    vec![
        Route::get(
            "/v1/hosts/{id}/mtu",
            "measureMtu",
            "Find the largest packet that another host answers. It takes seconds.",
            measure,
        )
        .parameter::<HostId>("ID of another host.")
        .reply::<MtuReply>(200, "What was found.")
        .fails(&[404])
        .within(RECONCILE_WITHIN),
    ]
}

fn measure(driver: &Arc<Driver>, ask: &Ask<'_>) -> Result<Reply, Failure> {
    let host: HostId = ask.parameter().parse().map_err(Failure::bad_request)?;
    let cluster = driver.fabric.tunnels.cluster()?;
    let Some(own) = cluster.own else {
        return Err(Failure(404, "this host is in no list of hosts: see \"ciao-net host list\"".to_owned()));
    };
    let Some(other) = cluster.others.get(&host) else {
        return Err(Failure(404, format!("{host} is not another host in the list: see \"ciao-net host list\"")));
    };
    let mtu = own.mtu.bytes().min(other.mtu.bytes());
    let smallest = SMALLEST[usize::from(other.address.is_ipv6())].min(mtu);
    let carried = largest(smallest, mtu, |bytes| driver.fabric.kernel.echo(own.address, other.address, bytes))?;
    json(200, &MtuReply { host, mtu, carried })
}

/// Requests of each size.
const TRIES: usize = 3;

/// The largest number for which `works`, if it does for `least`.
fn largest(least: u32, most: u32, works: impl Fn(u32) -> Result<bool>) -> Result<Option<u32>> {
    // One may be lost.
    let works = |bytes| {
        for _ in 0..TRIES {
            if works(bytes)? {
                return Ok(true);
            }
        }
        anyhow::Ok(false)
    };
    if works(most)? {
        return Ok(Some(most));
    }
    if !works(least)? {
        return Ok(None);
    }
    let (mut good, mut bad) = (least, most);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if works(middle)? { good = middle } else { bad = middle }
    }
    Ok(Some(good))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_lost_request_of_any_size_is_no_smaller_mtu() {
        for carried in [576, 577, 1038, 1400, 1499, 1500] {
            let tries = RefCell::new(BTreeMap::<u32, u32>::new());
            // Of each size the first two are lost.
            let works = |bytes| {
                let mut tries = tries.borrow_mut();
                let tries = tries.entry(bytes).or_default();
                *tries += 1;
                Ok(bytes <= carried && *tries > 2)
            };
            assert_eq!(largest(576, 1500, works).unwrap(), Some(carried));
        }
        assert_eq!(largest(576, 1500, |_| Ok(false)).unwrap(), None);
    }
}
