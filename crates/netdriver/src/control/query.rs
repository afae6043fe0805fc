// SPDX-License-Identifier: Apache-2.0
//! The parameters of a request's query.

use anyhow::{Context, Result, bail};
use ciao_common::types::{InstanceId, TenantId};

/// What may follow the `?`.
#[derive(Default)]
pub(super) struct Query {
    pub(super) tenant: Option<TenantId>,
    pub(super) instance: Option<InstanceId>,
    pub(super) force: bool,
    pub(super) dry_run: bool,
}

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            match key {
                "tenant" => query.tenant = Some(value.parse()?),
                "instance" => query.instance = Some(value.parse()?),
                "force" => query.force = flag(key, value)?,
                "dry_run" => query.dry_run = flag(key, value)?,
                _ => bail!("unknown parameter {key}: known are tenant, instance, force, dry_run"),
            }
        }
        Ok(query)
    }
}

fn flag(key: &str, value: &str) -> Result<bool> {
    value.parse().with_context(|| format!("{key}={value}: give true or false"))
}
