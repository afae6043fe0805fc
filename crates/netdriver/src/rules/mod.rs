// SPDX-License-Identifier: Apache-2.0
//! The nftables rules: two fixed rulesets, and the elements that come and go.
//!
//! In a tenant's namespace, table `bridge ciao` restricts each VNIC to its own addresses, and table `inet ciao` decides
//! what may leave. On the host, table `inet ciao` has the published ports and what tenants may not reach, and table
//! `inet ciao_tunnel` what other hosts may send. A change is one
//! transaction of a few elements, at the same cost with two thousand VNICs as with two; a whole ruleset is only
//! written when a namespace is made or its rules are missing.

mod egress;
mod elements;
mod host;
mod tenant;
mod tunnel;

pub(crate) use elements::{
    Restrictions, host_elements, inner_port, network_elements, outer_port, routed6, shared_sources, source,
    vnic_elements,
};
pub(crate) use host::{DELETE_HOST_RULES, HOST_FILTER, HostEgress, egress_script, host_ruleset, is_in_filter};
pub use host::{EgressPolicy, MOST_NAT_PORTS};
pub(crate) use tenant::Tenant;
pub(crate) use tunnel::{NetworkSenders, TunnelSenders};
