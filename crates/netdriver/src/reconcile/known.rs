// SPDX-License-Identifier: Apache-2.0
//! Docker's list: what is not on it is forgotten, so it must be that of the engine whose networks are recorded.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ciao_common::api::go;
use ciao_common::api::listing::ListedNetwork;
use ciao_common::types::{EndpointId, NetworkId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Depth, Repair, SETTLED};
use crate::Driver;

/// Docker's lists: records of anything else are removed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = DockerLists)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The engine's id, as its `GET /info` has it.
    #[serde(default)]
    pub engine: Option<String>,
    /// The ids of all its networks.
    #[schema(value_type = Vec<NetworkId>)]
    pub networks: BTreeSet<NetworkId>,
    /// The ids of all endpoints of its networks of driver ciao-net; `None`: not listed.
    #[serde(default)]
    #[schema(value_type = Option<Vec<EndpointId>>)]
    pub endpoints: Option<BTreeSet<EndpointId>>,
    /// Its networks of driver ciao-net, of which lost records are made again, and after them those of other drivers
    /// whose IPAM driver is ciao-ipam, of which lost pools are.
    #[serde(default, deserialize_with = "go::objects")]
    #[schema(value_type = Option<Vec<ListedNetwork>>)]
    pub details: Vec<ListedNetwork>,
    /// Further parts follow: nothing is done but records made again.
    #[serde(default)]
    pub more: bool,
    /// The first part of a list: what one that was not finished has recorded counts no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
    /// Milliseconds since the first of Docker's lists was requested, or more: what was recorded since, or up to a
    /// minute before, may be missing in them.
    #[serde(default)]
    pub age: u64,
}

/// What is recorded of Docker's.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Records)]
pub struct Recorded {
    /// The ids of its networks.
    #[schema(value_type = Vec<NetworkId>)]
    pub networks: BTreeSet<NetworkId>,
    /// Those of its endpoints.
    #[schema(value_type = Vec<EndpointId>)]
    pub endpoints: BTreeSet<EndpointId>,
}

impl Driver {
    /// As [`Self::reconcile`], with Docker's list. With `force`, a strange list is taken for its networks; what a
    /// container is on stays all the same.
    ///
    /// # Errors
    /// The list is strange, and nothing was done: it is another engine's, or no recorded network is on it. The disk's.
    pub fn reconcile_with(&self, depth: Depth, mut known: Known, force: bool) -> Result<Vec<Repair>> {
        let settled = self.settled(Some(&known));
        let is_strange = self.store.read(|tx| {
            let networks = tx.networks_before(settled)?;
            let none = (!networks.is_empty() && !networks.iter().any(|id| known.networks.contains(id)))
                .then(|| format!("Docker's list has none of the {} recorded networks", networks.len()));
            tx.check_list(known.engine.as_deref(), none, force)
        })?;
        if is_strange {
            known.endpoints = None;
        }
        if let (Some(engine), true) = (known.engine.clone(), depth != Depth::DryRun) {
            self.store.write(move |tx| tx.set_engine(&engine))?;
        }
        if known.more {
            return Ok(self.reconcile_records(depth, &known));
        }
        Ok(self.reconcile_all(depth, Some(&known)))
    }

    /// As [`Self::reconcile`], after what has no record was given up: it is nobody's then.
    ///
    /// # Errors
    /// The kernel's, the disk's.
    pub fn give_up(&self, depth: Depth) -> Result<Vec<Repair>> {
        if depth != Depth::DryRun {
            self.fabric.lost.give_up()?;
            return Ok(self.reconcile(depth));
        }
        // Another driver gives it up, so the rest of this one keeps to it.
        let other = Self::new(Arc::clone(&self.store), Arc::clone(&self.fabric.kernel), self.config.clone())?;
        other.fabric.lost.give_up()?;
        Ok(other.reconcile(depth))
    }

    /// What was recorded before this time and is not on Docker's list is unknown to Docker.
    pub(super) fn settled(&self, docker: Option<&Known>) -> i64 {
        let age = Duration::from_millis(docker.map_or(0, |known| known.age));
        self.store.ago(SETTLED.saturating_add(age))
    }

    /// What is recorded of Docker's.
    pub(crate) fn recorded(&self) -> Result<Recorded> {
        let (networks, endpoints) = self.store.read(|tx| Ok((tx.networks()?, tx.endpoints()?)))?;
        let networks = networks.into_iter().filter(|network| !network.remote).map(|network| network.id).collect();
        Ok(Recorded { networks, endpoints: endpoints.into_iter().map(|endpoint| endpoint.id).collect() })
    }
}
