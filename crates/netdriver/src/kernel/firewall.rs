// SPDX-License-Identifier: Apache-2.0
//! The host's own firewall, and the guard of ciao's rules beside it.

use std::collections::BTreeSet;

use anyhow::Result;
use ciao_common::types::{Family, LinkName};

use super::element::Element;

/// What the host's firewall is to accept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FirewallOpening {
    /// Frames between ports of an existing bridge of the host.
    Bridge(LinkName),
    /// Traffic from and to tenants' uplinks, which ciao's own table filters.
    Uplinks,
}

/// The host's own firewall.
pub trait Firewall {
    /// Makes the host's firewall accept `openings`, after every rule of others, and nothing else of ciao's. Where its
    /// chain FORWARD was loaded again, the policies of `drop` are DROP again. Returns a rule of that chain that comes
    /// before and that nothing passes.
    fn open_firewall(&self, openings: &BTreeSet<FirewallOpening>, drop: &[Family]) -> Result<Option<String>>;

    /// Deletes the rules for uplinks that version 0.1.0 put into chains of others, or an administrator did.
    fn delete_former_rules(&self) -> Result<()>;

    /// Whether its chain FORWARD has rules of others.
    fn is_firewall_used(&self, family: Family) -> Result<bool>;
}

/// A second copy of the host's filter that a flush of the host's rules does not remove. It lasts as long as this
/// process.
pub trait HostGuard {
    /// Makes or replaces the copy: chains and sets in nft's language, and elements of the sets. An error of a kernel or
    /// an nft that has no tables with owners, too.
    fn guard_host(&self, filter: &str, elements: &[Element]) -> Result<()>;

    /// Whether there is a copy.
    fn is_host_guarded(&self) -> bool;

    /// Removes the copy.
    fn unguard_host(&self);
}
