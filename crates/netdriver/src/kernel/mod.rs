// SPDX-License-Identifier: Apache-2.0
//! The operations on Linux that the driver uses, a trait a subject; [`linux`] is the running kernel, `fake` a double
//! for tests.
//!
//! A tenant is a network namespace. Its bridges, the host ends of its VNICs and its gateway addresses live there; only
//! the container's end of a VNIC is in the host's namespace, until Docker moves it. So neither the host's firewall nor
//! another tenant's addresses affect a tenant.
//!
//! Each operation makes or removes a whole thing, or leaves nothing behind. An error is the kernel's, or that of the
//! command that was run, with the link, address or namespace it is about.

pub mod element;
#[cfg(any(test, feature = "fake-kernel"))]
pub mod fake;
mod firewall;
mod host_setting;
mod links;
pub mod linux;
mod namespace;
mod port;
mod rules;
pub mod state;
pub mod tunnel;
mod uplink;

pub use firewall::{Firewall, FirewallOpening, HostGuard};
pub use host_setting::{HostChange, HostSetting, HostSettings};
pub use links::{HostLink, LinkLocation, Links, Veth};
pub use namespace::{Namespace, Namespaces};
pub use port::{HeldPort, Ports};
pub use rules::{Flows, ForwardedPort, Rules};
pub use state::Inspection;
use tunnel::Tunnels;
pub use uplink::{UplinkPair, Uplinks};

/// All of it.
pub trait Kernel:
    Namespaces
    + Links
    + Uplinks
    + Rules
    + Firewall
    + HostGuard
    + HostSettings
    + Inspection
    + Ports
    + Tunnels
    + Send
    + Sync
    + 'static
{
}
