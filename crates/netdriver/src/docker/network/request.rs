// SPDX-License-Identifier: Apache-2.0
//! A request for a network, read.

use std::net::IpAddr;

use anyhow::{Result, bail};
use ciao_common::api::network::{CreateNetwork, IpamData};
use ciao_common::store::NetworkSubnet;
use ciao_common::types::NetworkId;

use super::check::check_route;
use crate::docker::options::NetworkOptions;
use crate::fabric::IPV6_MTU;

/// A request for a network, read.
pub(super) struct NetworkRequest {
    pub(super) id: NetworkId,
    pub(super) options: NetworkOptions,
    /// The request's content, to recognize a repeated one.
    pub(super) fingerprint: String,
    pub(super) subnets: Vec<(IpamData, NetworkSubnet)>,
}

impl NetworkRequest {
    pub(super) fn parse(call: &CreateNetwork) -> Result<Self> {
        let options = NetworkOptions::parse(&call.options)?;
        let subnets: Vec<_> = call
            .ipv4_data
            .iter()
            .chain(&call.ipv6_data)
            .map(|data| Ok((data.clone(), subnet(data)?)))
            .collect::<Result<_>>()?;
        for (index, (_, one)) in subnets.iter().enumerate() {
            if let Some((_, other)) = subnets[..index].iter().find(|(_, other)| other.subnet.overlaps(one.subnet)) {
                bail!("subnets {} and {} of the network overlap: give others", other.subnet, one.subnet);
            }
        }
        let has_v6 = subnets.iter().any(|(_, subnet)| subnet.subnet.network().is_ipv6());
        if let Some(mtu) = options.mtu.filter(|mtu| has_v6 && mtu.bytes() < IPV6_MTU) {
            bail!("MTU {mtu} is too small for IPv6: give at least {IPV6_MTU}");
        }
        options.routes.iter().try_for_each(|route| check_route(route, &subnets))?;
        // The id is the key; the rest, whatever of it an engine sends, is what must be the same.
        let said = (
            &call.options.generic(),
            options.internal,
            subnets.iter().map(|(_, s)| (s.subnet, s.gateway)).collect::<Vec<_>>(),
        );
        Ok(Self { id: call.network_id.clone(), options, fingerprint: serde_json::to_string(&said)?, subnets })
    }
}

fn subnet(data: &IpamData) -> Result<NetworkSubnet> {
    let gateway = data.gateway.map(|cidr| cidr.ip());
    data.pool.check_for_hosts(gateway)?;
    let mut aux: Vec<IpAddr> = data.aux_addresses.values().map(|cidr| cidr.ip()).collect();
    aux.sort_unstable();
    Ok(NetworkSubnet { subnet: data.pool, gateway, aux, set_id: None, pool: None })
}
