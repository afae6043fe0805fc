// SPDX-License-Identifier: Apache-2.0
//! A port of the host's own services, as a network's option names it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result};
use serde_with::{DeserializeFromStr, SerializeDisplay};

use super::Protocol;

/// A port and its protocol: `5432/tcp`. Read with `5432` too, which is TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, SerializeDisplay, DeserializeFromStr)]
pub struct HostPort {
    /// The protocol.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub number: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl FromStr for HostPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = number.parse().ok().filter(|number| *number != 0);
        let number =
            number.with_context(|| format!("port {text:?} is not a number from 1 to 65535, such as 5432 or 53/udp"))?;
        Ok(Self { protocol: protocol.parse().with_context(|| format!("port {text:?}"))?, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_a_protocol_and_is_a_number() {
        for (text, shown) in [("5432", "5432/tcp"), ("53/udp", "53/udp"), ("65535/sctp", "65535/sctp")] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), shown);
        }
        for text in ["0", "65536", "http", "", "-1", "80/icmp", "80/", "80-90", "80/tcp/tcp"] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
