//! The control socket: HTTP with JSON for launchers and for the command line. `GET /v1/openapi.json` describes it.
//!
//! Statuses: 400 what is asked makes no sense, 404 no such thing, 409 somebody else has it, 500 disk or kernel. An error
//! is `{"error": sentence}`.

pub mod show;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ciao_common::serve::server::{ANSWER_WITHIN, Handler, Reply, Request};
use ciao_common::types::{InstanceId, TenantId, VnicId};
use serde::{Deserialize, Serialize};

use crate::Driver;
use crate::control::show::Shown;
use crate::launcher::{Creation, Deletion, VnicRequest};
use crate::reconcile::{Depth, Known};

/// The description of this interface.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Within this time a reconcile has an answer: it looks at every network of the host, and an administrator can wait.
pub const RECONCILE_WITHIN: Duration = Duration::from_secs(120);

/// What answers on the control socket.
pub struct Control {
    driver: Arc<Driver>,
}

/// An error's reply.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorReply {
    /// What went wrong.
    pub error: String,
}

impl Control {
    /// The launcher's side of a driver.
    #[must_use]
    pub fn new(driver: Arc<Driver>) -> Self {
        Self { driver }
    }

    fn route(&self, request: Request<'_>) -> Result<Reply> {
        let path = segments(request.path);
        let query = match Query::parse(request.query) {
            Ok(query) => query,
            Err(error) => return Ok(sentence(400, &format!("{error:#}"))),
        };
        match (request.method, path.as_slice()) {
            ("GET", ["v1", "openapi.json"]) => {
                Ok(Reply { status: 200, content_type: "application/json", body: OPENAPI.into() })
            }
            ("POST", ["v1", "vnics"]) => self.create(request.body),
            ("GET", ["v1", "vnics"]) => {
                Ok(json(200, &self.driver.list_vnics(query.tenant.as_ref(), query.instance.as_ref())?))
            }
            ("GET", ["v1", "vnics", id]) => self.show(id),
            ("GET", ["v1", "networks", id]) => self.show_network(id),
            ("DELETE", ["v1", "vnics", id]) => self.delete(id, query.force),
            ("POST", ["v1", "reconcile"]) => {
                let depth = if query.dry_run { Depth::Dry } else { Depth::Whole };
                let known: Option<Known> = if request.body.is_empty() {
                    None
                } else {
                    match ciao_common::api::parse(request.body) {
                        Ok(known) => known,
                        Err(error) => return Ok(sentence(400, &format!("{error:#}"))),
                    }
                };
                Ok(json(200, &self.driver.reconcile_with(depth, known.as_ref())?))
            }
            (method, _) => Ok(sentence(404, &format!("{method} {} is unknown: see /v1/openapi.json", request.path))),
        }
    }

    fn create(&self, body: &[u8]) -> Result<Reply> {
        let read = ciao_common::api::parse::<VnicRequest>(body).and_then(VnicRequest::checked);
        let request = match read {
            Ok(request) => request,
            Err(error) => return Ok(sentence(400, &format!("{error:#}"))),
        };
        Ok(match self.driver.create_vnic(request)? {
            Creation::Made(vnic) => json(201, &vnic),
            Creation::There(vnic) => json(200, &vnic),
            Creation::Taken(text) => sentence(409, &text),
        })
    }

    fn show(&self, id: &str) -> Result<Reply> {
        let found = match id.parse() {
            Ok(id) => self.driver.show_vnic(&id)?,
            Err(_) => None,
        };
        Ok(found.map_or_else(
            || sentence(404, &format!("VNIC {id} is unknown: see \"ciao-net vnic list\"")),
            |vnic| json(200, &vnic),
        ))
    }

    fn show_network(&self, id: &str) -> Result<Reply> {
        Ok(match self.driver.show_network(id)? {
            Shown::One(network) => json(200, &network),
            Shown::None => sentence(
                404,
                &format!(
                    "no network of ciao-net has an id that begins with {id}: see \"ciao-net network list\". A name is \
                     not enough, because Docker tells drivers ids alone: \"docker network ls\" has both"
                ),
            ),
            Shown::Several => sentence(404, &format!("several networks' ids begin with {id}: give more of the id")),
        })
    }

    fn delete(&self, id: &str, force: bool) -> Result<Reply> {
        let id: VnicId = match id.parse() {
            Ok(id) => id,
            Err(error) => return Ok(sentence(400, &format!("{error:#}"))),
        };
        Ok(match self.driver.delete_vnic(&id, force)? {
            Deletion::Gone(reply) => json(200, &reply),
            Deletion::InUse(text) => sentence(409, &text),
        })
    }
}

impl Handler for Control {
    fn handle(&self, request: Request<'_>) -> Reply {
        let reply = self.route(request).unwrap_or_else(|error| sentence(500, &format!("{error:#}")));
        if reply.status >= 400 {
            log::warn!("{} {} refused: {}", request.method, request.path, String::from_utf8_lossy(&reply.body));
        }
        reply
    }

    fn answer_within(&self, path: &str) -> Duration {
        if segments(path) == ["v1", "reconcile"] { RECONCILE_WITHIN } else { ANSWER_WITHIN }
    }

    fn refuse(&self, status: u16, text: &str) -> Reply {
        sentence(status, text)
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.trim_matches('/').split('/').collect()
}

/// What may follow the `?`.
#[derive(Default)]
struct Query {
    tenant: Option<TenantId>,
    instance: Option<InstanceId>,
    force: bool,
    dry_run: bool,
}

impl Query {
    fn parse(text: &str) -> Result<Self> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            match key {
                "tenant" => query.tenant = Some(value.parse()?),
                "instance" => query.instance = Some(value.parse()?),
                "force" => query.force = yes(key, value)?,
                "dry_run" => query.dry_run = yes(key, value)?,
                _ => anyhow::bail!("unknown parameter {key}: known are tenant, instance, force, dry_run"),
            }
        }
        Ok(query)
    }
}

fn yes(key: &str, value: &str) -> Result<bool> {
    value.parse().with_context(|| format!("{key}={value}: give true or false"))
}

fn json(status: u16, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => Reply { status, content_type: "application/json", body },
        Err(error) => sentence(500, &format!("a defect in ciao: the reply cannot be written: {error}")),
    }
}

fn sentence(status: u16, text: &str) -> Reply {
    let body = serde_json::to_vec(&ErrorReply { error: text.to_owned() }).unwrap_or_default();
    Reply { status, content_type: "application/json", body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The description's fields of a schema, sorted.
    fn described(schema: &str) -> Vec<String> {
        let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
        let properties = openapi["components"]["schemas"][schema]["properties"].as_object().unwrap().clone();
        let mut names: Vec<_> = properties.keys().cloned().collect();
        names.sort();
        names
    }

    #[test]
    fn the_description_has_every_field_of_a_request() {
        let request: VnicRequest = serde_json::from_value(serde_json::json!({
            "tenant": "t", "instance": "i", "subnet": "10.0.0.0/24", "address": "10.0.0.2", "mac": "02:00:00:00:00:02",
            "gateway": "10.0.0.1", "mtu": 1400, "bridge": "b", "address6": "fd00::2", "subnet6": "fd00::/64", "network": "n",
            "allowed_addresses": ["10.0.0.100"], "rate": "100mbit",
        }))
        .unwrap();
        let value = serde_json::to_value(request).unwrap();
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        assert_eq!(described("VnicRequest"), names);
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = ciao_common::api::parse::<VnicRequest>(br#"{"tenat":"x"}"#).unwrap_err().to_string();
        assert!(error.contains("tenat") && error.contains("tenant"), "{error}");
    }
}
