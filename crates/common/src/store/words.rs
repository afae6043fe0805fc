// SPDX-License-Identifier: Apache-2.0
//! Enums stored as words.

use serde::{Deserialize, Serialize};

use crate::types::words;

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

/// Who deletes a VNIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// Only the launcher.
    Launcher,
    /// Docker, together with its endpoint.
    Docker,
}

/// Why an address is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// Granted to an endpoint.
    Lease,
    /// Granted as the gateway of networks; counted, since networks on the same pool may share it.
    Gateway,
    /// Not granted, reserved for the instance that a launcher assigned it to.
    Reserved,
}

/// A transport protocol whose ports can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// 6.
    Tcp,
    /// 17.
    Udp,
    /// 132.
    Sctp,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

words!(Egress, "egress", Nat = "nat", Gateway = "gateway", Docker = "docker", None = "none");
words!(Egress6, "egress6", Nat = "nat", Route = "route", None = "none");
words!(VnicPolicy, "vnics", Auto = "auto", Required = "required");
words!(Owner, "owner", Launcher = "launcher", Docker = "docker");
words!(AddressKind, "kind", Lease = "lease", Gateway = "gateway", Reserved = "reserved");
words!(Protocol, "protocol", Tcp = "tcp", Udp = "udp", Sctp = "sctp");
