// SPDX-License-Identifier: Apache-2.0
//! What can be wrong with something that a record needs in the kernel.

use std::fmt;
use std::net::IpAddr;

use ciao_common::store::{Network, Uplink, Vnic};

/// Something that a record needs in the kernel.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A setting of the host that the uplink of a network needs.
    Forwarding(&'static str, Network),
    /// The rules of the host's namespace.
    HostRules,
    /// A tenant's namespace.
    Namespace(String),
    /// A setting of the kernel in it.
    Setting(String, &'static str),
    /// Its rules.
    Rules(String),
    /// The addresses that VNICs of one container share, in its rules.
    SharedAddresses(String),
    /// A network's bridge.
    Bridge(Network),
    /// A gateway's address on it.
    Gateway(Network, IpAddr),
    /// The kernel's list of the other hosts of the cluster.
    Hosts,
    /// The host's rules of tunnels.
    TunnelRules,
    /// A network's tunnel to them.
    Tunnel(Network),
    /// A tenant's uplink to the host: both ends, their addresses, the default routes.
    Uplink(Uplink, Network),
    /// The end of a VNIC's link that is on its bridge.
    Port(Vnic),
    /// A launcher's VNIC: the pair of links.
    Pair(Vnic),
    /// A link that is in a container. It cannot be given to it again while it runs.
    ContainerLink(Vnic),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forwarding(setting, _) => write!(f, "{setting} of the host"),
            Self::HostRules => f.write_str("rules of the host"),
            Self::Namespace(name) => write!(f, "network namespace {name}"),
            Self::Setting(name, setting) => write!(f, "{setting} of network namespace {name}"),
            Self::Rules(name) => write!(f, "rules of network namespace {name}"),
            Self::SharedAddresses(name) => write!(f, "addresses shared by VNICs of one container in {name}"),
            Self::Bridge(network) => write!(f, "bridge {} of network {}", network.bridge, network.id.short()),
            Self::Gateway(network, address) => {
                write!(f, "gateway address {address} of network {}", network.id.short())
            }
            Self::Hosts => f.write_str("nexthops of other hosts"),
            Self::TunnelRules => f.write_str("rules of tunnels"),
            Self::Tunnel(network) => write!(f, "tunnel of network {}", network.id.short()),
            Self::Uplink(uplink, _) => {
                write!(f, "uplink {} of network namespace {}", uplink.host_link, uplink.namespace)
            }
            Self::Port(vnic) => write!(f, "link {} of VNIC {}", vnic.host_link, vnic.id),
            Self::Pair(vnic) => write!(f, "VNIC {}", vnic.id),
            Self::ContainerLink(vnic) => write!(f, "container on VNIC {}", vnic.id),
        }
    }
}

/// What is wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// `create`, `restore` or `restart`.
    pub(crate) action: &'static str,
    pub(crate) subject: Subject,
    pub(crate) why: String,
}

impl Fault {
    pub(crate) fn new(action: &'static str, subject: Subject, why: impl Into<String>) -> Self {
        Self { action, subject, why: why.into() }
    }

    /// Whether nothing in its namespace may be set up until it is repaired.
    pub(crate) fn blocks_others(&self) -> bool {
        matches!(self.subject, Subject::HostRules | Subject::Namespace(_) | Subject::Rules(_))
    }
}
