// SPDX-License-Identifier: Apache-2.0
//! The options of an endpoint (`docker run --network name=…,driver-opt=…`).

use std::net::IpAddr;

use anyhow::{Context, Result};
use ciao_common::api::go::Options;
use ciao_common::types::{InstanceId, Rate, VnicId, parse_address};

use super::{parsed, refuse_unknown};
use crate::claims::check_address;

/// The options of an endpoint of ciao-net.
const KNOWN: [&str; 4] = ["instance", "vnic", "allowed_addresses", "rate"];

/// The options of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointOptions {
    /// `instance`: the launcher's instance.
    pub instance: Option<InstanceId>,
    /// `vnic`: the launcher's VNIC.
    pub vnic: Option<VnicId>,
    /// `allowed_addresses`: additional source addresses, such as a virtual IP.
    pub allowed_addresses: Vec<IpAddr>,
    /// `rate`: rate limit per direction, such as `100mbit`.
    pub rate: Option<Rate>,
}

impl EndpointOptions {
    /// Reads `CreateEndpoint`'s options, the engine's own keys passed over.
    ///
    /// # Errors
    /// An unknown option; an invalid value.
    pub fn parse(options: &Options) -> Result<Self> {
        let texts = options.texts();
        let user = texts.keys().filter(|key| !key.starts_with("com.docker."));
        refuse_unknown(user, &KNOWN, "driver-opt")?;
        let value = |key: &str| texts.get(key).map(String::as_str);
        let allowed = value("allowed_addresses").unwrap_or_default().split([',', ' ']).filter(|item| !item.is_empty());
        Ok(Self {
            instance: parsed(value("instance"), "instance")?,
            vnic: parsed(value("vnic"), "vnic")?,
            rate: parsed(value("rate"), "rate")?,
            allowed_addresses: allowed
                .map(|text| check_address(parse_address(text)?))
                .collect::<Result<_>>()
                .context("driver-opt allowed_addresses")?,
        })
    }
}
