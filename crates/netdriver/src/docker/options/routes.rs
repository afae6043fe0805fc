// SPDX-License-Identifier: Apache-2.0
//! The option `routes` of a network.

use anyhow::{Context, Result, ensure};
use ciao_common::store::Route;
use ciao_common::types::{Subnet, parse_address};

/// A destination, and its next hop unless it is on the link.
fn parse_route(item: &str) -> Result<Route> {
    let (destination, next_hop) = item.split_once('=').map_or((item, None), |(d, n)| (d, Some(n)));
    let what = || format!("route {item:?}: give DESTINATION=NEXT_HOP such as 10.0.0.0/8=192.168.111.254");
    let next_hop = next_hop.map(parse_address).transpose().with_context(what)?;
    let destination: Subnet = destination.trim().parse().with_context(what)?;
    let first = destination.network();
    ensure!(
        !first.is_loopback() && !first.is_multicast() && !first.is_unspecified(),
        "route {item:?} leads to {destination}, which is loopback, multicast or the default route: \
         give a subnet; the default route is --gateway's"
    );
    if let Some(hop) = next_hop {
        ensure!(hop.is_ipv4() == first.is_ipv4(), "route {item:?} mixes IPv4 and IPv6");
    }
    Ok(Route { destination, next_hop })
}

/// Routes to different destinations.
pub(super) fn parse_routes<'a>(items: impl Iterator<Item = &'a str>) -> Result<Vec<Route>> {
    let routes = items.map(parse_route).collect::<Result<Vec<_>>>()?;
    for (index, route) in routes.iter().enumerate() {
        let again = routes[..index].iter().any(|other| other.destination == route.destination);
        ensure!(!again, "route to {} is given twice", route.destination);
    }
    Ok(routes)
}
