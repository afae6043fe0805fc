// SPDX-License-Identifier: Apache-2.0
//! The options of an endpoint (`docker run --network name=…,driver-opt=…`).

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ciao_common::api::endpoint::INTERFACE;
use ciao_common::api::go::Options;
use ciao_common::types::{InstanceId, LinkName, Rate, VnicId, parse_address};

use super::{UserOptions, refuse_unknown};
use crate::address_check::check_address;

/// The options of an endpoint of ciao-net.
const KNOWN: &str = "instance vnic allowed_addresses rate";

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
    /// The interface's name in the container.
    pub interface: Option<LinkName>,
}

impl EndpointOptions {
    /// Reads `CreateEndpoint`'s options, the engine's own keys passed over.
    ///
    /// # Errors
    /// An unknown option; an empty or invalid value.
    pub fn parse(options: &Options) -> Result<Self> {
        // The engine's own may be empty.
        let mut empty = options.empty();
        empty.retain(|key| !key.starts_with("com.docker.") || *key == INTERFACE);
        refuse_unknown(empty.iter().filter(|key| **key != INTERFACE), KNOWN, "driver-opt")?;
        ensure!(
            empty.is_empty(),
            "driver-opt {}= is empty: give a value, or omit the option",
            empty.join("=, driver-opt ")
        );
        let texts = options.texts();
        let user = texts.keys().filter(|key| !key.starts_with("com.docker."));
        refuse_unknown(user, KNOWN, "driver-opt")?;
        let given = UserOptions(&texts);
        Ok(Self {
            instance: given.parsed("instance")?,
            vnic: given.parsed("vnic")?,
            rate: given.parsed("rate")?,
            interface: given.text(INTERFACE).map(parse_interface).transpose()?,
            allowed_addresses: given
                .list("allowed_addresses")
                .map(|text| check_address(parse_address(text)?))
                .collect::<Result<_>>()
                .context("driver-opt allowed_addresses")?,
        })
    }
}

/// A name that an engine makes of a prefix and 0: one before 29.8 takes no other ([`prefix_of`]).
fn parse_interface(text: &str) -> Result<LinkName> {
    let name = text.parse::<LinkName>().with_context(|| format!("interface name {text}"))?;
    ensure!(
        name.is_plain() && !prefix_of(&name).is_empty() && text.ends_with('0'),
        "interface name {text} is not possible: give one of letters and digits that ends in 0, such as wan0, since engines \
         before 29.8 number the interfaces of a plugin's networks themselves"
    );
    Ok(name)
}

/// An interface's name without the 0.
pub(crate) fn prefix_of(name: &LinkName) -> &str {
    name.as_str().strip_suffix('0').unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(key: &str, value: &str) -> String {
        format!("{:#}", EndpointOptions::parse(&Options::from([(key, value)])).unwrap_err())
    }

    #[test]
    fn an_interface_name_is_one_that_every_engine_gives() {
        let options = EndpointOptions::parse(&Options::from([(INTERFACE, "wan0")])).unwrap();
        assert_eq!(options.interface.as_ref().map(prefix_of), Some("wan"));
        for name in ["wan1", "lan", "0", "a/0", "w:0", "a+0", "sixteen-bytes-x0"] {
            assert!(error(INTERFACE, name).contains(&format!("interface name {name}")), "{name}");
        }
    }

    #[test]
    fn an_empty_value_is_an_error_that_names_the_option() {
        for key in ["instance", "vnic", "allowed_addresses", "rate", INTERFACE] {
            assert!(error(key, "").contains(&format!("driver-opt {key}= is empty")), "{}", error(key, ""));
        }
        assert!(error("speed", "").contains("unknown option driver-opt speed"), "{}", error("speed", ""));
    }
}
