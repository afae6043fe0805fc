// SPDX-License-Identifier: Apache-2.0
//! Network namespaces, by name.

use std::fmt;

use anyhow::Result;

/// Where a link is: a tenant's network namespace (`/run/netns/NAME`), or the host's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespace {
    /// The one that the daemon and dockerd run in.
    Host,
    /// One that ciao-net made.
    Named(String),
}

impl Namespace {
    /// From the store's column, where NULL is the host's.
    pub fn of(column: Option<&str>) -> Self {
        column.map_or(Self::Host, |name| Self::Named(name.to_owned()))
    }

    /// As the store's column.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Host => None,
            Self::Named(name) => Some(name),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("(host)"))
    }
}

/// Tenants' network namespaces.
pub trait Namespaces {
    /// Makes a namespace that routes between its links, if it is not there. `true`: made.
    fn ensure_namespace(&self, name: &str) -> Result<bool>;

    /// Whether a namespace exists.
    fn has_namespace(&self, name: &str) -> Result<bool>;

    /// Removes a namespace with all that is in it. Absent: nothing to do.
    fn delete_namespace(&self, name: &str) -> Result<()>;

    /// The namespaces that ciao-net made.
    fn namespaces(&self) -> Result<Vec<String>>;
}
