// SPDX-License-Identifier: Apache-2.0
//! The hosts of the cluster as this one sees them. This host is the one of the list that has an address of this machine.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ciao_common::store::{ClusterHost, Store};
use ciao_common::types::HostId;

use crate::kernel::Kernel;

/// The hosts of the cluster.
pub(crate) struct Cluster {
    /// This host; `None`: it is not in the list.
    pub(crate) own: Option<ClusterHost>,
    /// The others.
    pub(crate) others: BTreeMap<HostId, ClusterHost>,
}

impl Cluster {
    pub(super) fn read(store: &Store, kernel: &dyn Kernel) -> Result<Self> {
        let hosts = store.read(|tx| tx.cluster_hosts())?;
        if hosts.is_empty() {
            return Ok(Self { own: None, others: BTreeMap::new() });
        }
        let addresses: BTreeSet<_> = kernel.host_addresses()?.into_iter().map(|(_, address)| address).collect();
        let (own, others): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| addresses.contains(&host.address));
        Ok(Self { own: own.into_iter().next(), others: others.into_iter().map(|h| (h.id.clone(), h)).collect() })
    }
}
