// SPDX-License-Identifier: Apache-2.0
//! Docker's list: what is not on it is forgotten, so it must be that of the engine whose networks are recorded.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use ciao_common::api::go;
use ciao_common::api::listing::ListedNetwork;
use ciao_common::types::{EndpointId, NetworkId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Depth, Repair, SETTLED};
use crate::Driver;

/// The setting with the id of the engine whose networks are recorded.
const ENGINE: &str = "engine";

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
    /// Its networks of driver ciao-net, of which lost records are made again.
    #[serde(default, deserialize_with = "go::objects")]
    #[schema(value_type = Option<Vec<ListedNetwork>>)]
    pub details: Vec<ListedNetwork>,
    /// Further parts follow: nothing is done but records made again.
    #[serde(default)]
    pub more: bool,
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
        match self.strangeness(&known)? {
            Some(why) if !force => {
                bail!(
                    "{why}: nothing was changed; see that it is the right engine's socket, then add --force (force=true)"
                )
            }
            Some(why) => {
                log::warn!("reconcile: {why}: taken all the same (--force)");
                known.endpoints = None;
            }
            None => {}
        }
        if let (Some(engine), true) = (known.engine.clone(), depth != Depth::DryRun) {
            self.store.write(move |tx| tx.set_setting(ENGINE, &engine))?;
        }
        if known.more {
            return Ok(self.reconcile_records(depth, &known));
        }
        if force && depth != Depth::DryRun {
            self.fabric.lost.give_up()?;
        }
        Ok(self.reconcile_all(depth, Some(&known)))
    }

    /// What was recorded before this time and is not on Docker's list is unknown to Docker.
    pub(super) fn settled(&self, docker: Option<&Known>) -> i64 {
        let age = Duration::from_millis(docker.map_or(0, |known| known.age));
        self.store.ago(SETTLED.saturating_add(age))
    }

    /// What is recorded of Docker's.
    pub(crate) fn recorded(&self) -> Result<Recorded> {
        let (networks, endpoints) = self.store.read(|tx| Ok((tx.networks()?, tx.endpoints()?)))?;
        let networks = networks.into_iter().map(|network| network.id).collect();
        Ok(Recorded { networks, endpoints: endpoints.into_iter().map(|endpoint| endpoint.id).collect() })
    }

    /// Why a list may not be that of the engine whose networks are recorded.
    fn strangeness(&self, known: &Known) -> Result<Option<String>> {
        let settled = self.settled(Some(known));
        let (recorded, networks) = self.store.read(|tx| Ok((tx.setting(ENGINE)?, tx.networks_before(settled)?)))?;
        Ok(match (&known.engine, recorded) {
            (None, _) => Some("Docker's list names no engine".to_owned()),
            (Some(engine), Some(recorded)) if *engine != recorded => {
                Some(format!("Docker's list is engine {engine}'s, but the records are of engine {recorded}'s networks"))
            }
            _ if !networks.is_empty() && !networks.iter().any(|id| known.networks.contains(id)) => {
                Some(format!("Docker's list has none of the {} recorded networks", networks.len()))
            }
            _ => None,
        })
    }
}
