// SPDX-License-Identifier: Apache-2.0
//! nftables, and tracked connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use ciao_common::store::Protocol;
use ciao_common::types::Subnet;

use super::element::{Change, Element, Ruleset};
use super::namespace::Namespace;

/// nftables.
pub trait Rules {
    /// Runs a script of nft in a namespace, all of it or nothing.
    fn run_nft(&self, namespace: &Namespace, script: &str) -> Result<()>;

    /// Replaces ciao's tables in a namespace, all of them or nothing. Returns the generation afterwards, as of
    /// [`Self::rules_generation`], unless something else changed rules at the same time.
    fn load_rules(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<u32>>;

    /// How ciao's tables in a namespace differ from what [`Self::load_rules`] loads; `None`: not at all.
    fn rules_difference(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<String>>;

    /// Changes elements of ciao's tables in a namespace, all of them or none. It is an error to delete an element that
    /// is absent, and to add one that is there with another value. Returns the generation afterwards.
    fn change_elements(&self, namespace: &Namespace, elements: &[Element], change: Change) -> Result<Option<u32>>;

    /// Whether ciao's tables exist in a namespace.
    fn has_rules(&self, namespace: &Namespace) -> Result<bool>;

    /// A number that grows by one with every change of a namespace's rules; `None` where some of them are legacy
    /// iptables, which count no changes.
    fn rules_generation(&self, namespace: &Namespace) -> Result<Option<u32>>;

    /// The published ports in ciao's rules of a namespace. No rules: none.
    fn forwarded_ports(&self, namespace: &Namespace) -> Result<Vec<ForwardedPort>>;

    /// How many packets ciao's rules of a namespace have dropped since they were loaded, by reason.
    fn drops(&self, _namespace: &Namespace) -> Result<BTreeMap<String, u64>> {
        Ok(BTreeMap::new())
    }

    /// All rules of a namespace, as nft lists them.
    fn list_rules(&self, namespace: &Namespace) -> Result<String>;

    /// Removes tracked connections in a namespace. None: nothing to do.
    fn forget_flows(&self, namespace: &Namespace, flows: &Flows) -> Result<()>;
}

/// A published port in the rules: in a tenant's namespace it leads to a container, on the host to a tenant's uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedPort {
    /// Of the host; `None`: all of the family of `to`.
    pub at: Option<IpAddr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The host's port; in a tenant's namespace, that of its uplink.
    pub number: u16,
    /// Where it leads.
    pub to: IpAddr,
    /// The port there: the container's, or the uplink's.
    pub port: Option<u16>,
}

/// Tracked connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flows {
    /// To ports at addresses.
    To {
        /// Those that a client sends to.
        addresses: BTreeSet<IpAddr>,
        /// Protocol and port.
        ports: BTreeSet<(u8, u16)>,
    },
    /// From these addresses, or to a published port that is forwarded to one of them.
    Of(BTreeSet<IpAddr>),
    /// The same of all addresses of these subnets.
    Within(Vec<Subnet>),
}
