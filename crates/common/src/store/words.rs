// SPDX-License-Identifier: Apache-2.0
//! Enums stored as words.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::Serialize;

/// What acts as the default gateway of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// The tenant's namespace, with NAT. Routes between the tenant's subnets.
    Nat,
    /// An external gateway: a concentrator, or a router on an existing bridge.
    Gateway,
    /// Docker's second interface, on `docker_gwbridge`.
    Docker,
    /// Nothing.
    None,
}

/// Egress of IPv6 of a network with [`Egress::Nat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress6 {
    /// With the address of the host (NAT66).
    Nat,
    /// With the container's address: the subnet is routed to this host.
    Route,
    /// None.
    None,
}

/// Endpoints without a launcher's VNIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VnicPolicy {
    /// Get an automatic VNIC, deleted with the endpoint.
    Auto,
    /// Are refused.
    Required,
}

/// Implements `Display` and `FromStr` of an enum.
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
                    // The caller adds the value.
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
