// SPDX-License-Identifier: Apache-2.0
//! Columns that hold one of a few words.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::Serialize;

/// Who answers the gateway's address of a network, and what is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// The tenant's namespace: it routes between the tenant's subnets.
    Nat,
    /// Somebody else: a concentrator, or a router on an existing bridge.
    Gateway,
    /// Docker's own second interface on `docker_gwbridge`.
    Docker,
    /// Nobody.
    None,
}

/// How the IPv6 of a network with [`Egress::Nat`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress6 {
    /// With the host's address (NAT66).
    Nat,
    /// With its own: the world routes the subnet to this host.
    Route,
    /// Not at all.
    None,
}

/// Whether an endpoint without a launcher's VNIC gets one made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VnicPolicy {
    /// Yes; it is Docker's and goes with the endpoint.
    Auto,
    /// No: that is an error.
    Required,
}

/// Defines how an enum stands in text.
macro_rules! words {
    ($name:ident, $what:literal, $($variant:ident = $word:literal),+) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        impl FromStr for $name {
            type Err = anyhow::Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    // Whoever asks says what was given.
                    _ => bail!(concat!($what, " is one of {}"), [$($word),+].join(", ")),
                }
            }
        }
    };
}
pub(super) use words;

words!(Egress, "egress", Nat = "nat", Gateway = "gateway", Docker = "docker", None = "none");
words!(Egress6, "egress6", Nat = "nat", Route = "route", None = "none");
words!(VnicPolicy, "vnics", Auto = "auto", Required = "required");
