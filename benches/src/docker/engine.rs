// SPDX-License-Identifier: Apache-2.0
//! Docker's API over its socket, and only the calls that are measured.

use anyhow::{Context, Result};
use ciao_common::cli::client::{Client, Response};
use ciao_tests::lab::Host;
use serde_json::{Value, json};

/// A version that every engine since 20.10 speaks, and in which a container's MAC address has one place.
const VERSION: &str = "/v1.41";

/// A host's engine.
pub struct Engine(Client);

impl Engine {
    /// The engine of a host.
    ///
    /// # Errors
    /// No runtime.
    pub fn of(host: &Host) -> Result<Self> {
        Ok(Self(Client::new("dockerd", host.path("/run/docker.sock"))?))
    }

    /// Its version, as `docker version` says it.
    ///
    /// # Errors
    /// It does not answer.
    pub fn version(&self) -> Result<String> {
        let version = self.0.get("/version")?.success()?;
        Ok(version["Version"].as_str().context("the engine says no version")?.to_owned())
    }

    /// Makes a network and returns its id.
    ///
    /// # Errors
    /// Docker's sentence.
    pub fn create_network(&self, body: &Value) -> Result<String> {
        id_of(self.0.post(&format!("{VERSION}/networks/create"), body)?)
            .with_context(|| format!("create network {}", body["Name"]))
    }

    /// Takes a network away.
    ///
    /// # Errors
    /// Docker's sentence.
    pub fn remove_network(&self, id: &str) -> Result<()> {
        let answer = self.0.delete(&format!("{VERSION}/networks/{id}"))?;
        answer.success().map(drop).with_context(|| format!("remove network {id}"))
    }

    /// Makes a container and returns its id.
    ///
    /// # Errors
    /// Docker's sentence.
    pub fn create_container(&self, body: &Value) -> Result<String> {
        id_of(self.0.post(&format!("{VERSION}/containers/create"), body)?).context("create a container")
    }

    /// Starts a container.
    ///
    /// # Errors
    /// Docker's sentence.
    pub fn start_container(&self, id: &str) -> Result<()> {
        let answer = self.0.post(&format!("{VERSION}/containers/{id}/start"), &Value::Null)?;
        answer.success().map(drop).context("start a container")
    }

    /// Kills a container and takes it away.
    ///
    /// # Errors
    /// Docker's sentence.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        let answer = self.0.delete(&format!("{VERSION}/containers/{id}?force=true"))?;
        answer.success().map(drop).context("remove a container")
    }
}

fn id_of(answer: Response) -> Result<String> {
    let made = answer.success()?;
    Ok(made["Id"].as_str().context("Docker says no id")?.to_owned())
}

/// The body of a network: with `tenant`, of both our drivers, without, of Docker's bridge.
#[must_use]
pub fn network(name: &str, subnet: &str, tenant: Option<&str>) -> Value {
    let config = json!([{"Subnet": subnet}]);
    match tenant {
        None => json!({"Name": name, "Driver": "bridge", "IPAM": {"Driver": "default", "Config": config}}),
        Some(tenant) => json!({
            "Name": name, "Driver": "ciao-net", "Options": {"tenant": tenant},
            "IPAM": {"Driver": "ciao-ipam", "Config": config, "Options": {"tenant": tenant}},
        }),
    }
}
