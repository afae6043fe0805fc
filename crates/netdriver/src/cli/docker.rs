// SPDX-License-Identifier: Apache-2.0
//! Docker's API, used by the command line and never by the daemon: dockerd holds locks while it waits for a plugin.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use ciao_common::cli::client::{Client, Response};
use ciao_common::types::{MacAddr, VnicId};
use clap::Args;
use serde_json::{Value, json};

/// From this version on an endpoint has a MAC address of its own; before, the container has one (moby#45905).
const MAC_OF_ENDPOINT: (u32, u32) = (1, 44);

#[derive(Args)]
pub(super) struct Docker {
    /// Docker's socket
    #[arg(long, value_name = "SOCKET", default_value = "/var/run/docker.sock")]
    docker_socket: PathBuf,
}

/// The ids of the engine, its networks, and the endpoints on ours, as the control socket takes them.
pub(super) fn known(docker: &Docker) -> Result<Value> {
    let docker = Client::new("dockerd", docker.docker_socket.clone())?;
    let networks = docker.get("/networks")?.success()?;
    let networks = networks.as_array().context("read dockerd's reply: its networks are not a list")?;
    let mut endpoints = Vec::new();
    for network in networks.iter().filter(|network| network["Driver"].as_str().is_some_and(is_ours)) {
        let id = network["Id"].as_str().context("read dockerd's reply: a network has no id")?;
        let reply = docker.get(&format!("/networks/{id}"))?;
        // It may be deleted since.
        if reply.status != 404 {
            let containers = &reply.success()?["Containers"];
            endpoints.extend(containers.as_object().into_iter().flatten().map(|(_, at)| at["EndpointID"].clone()));
        }
    }
    let ids: Vec<_> = networks.iter().map(|network| &network["Id"]).collect();
    let info = docker.get("/info")?.success()?;
    Ok(json!({ "engine": info["ID"], "networks": ids, "endpoints": endpoints }))
}

/// Whether a network's driver is ciao-net, as a service of the host or as a managed plugin, which has a tag and may have a
/// registry's name.
fn is_ours(driver: &str) -> bool {
    let name = driver.rsplit_once('/').map_or(driver, |(_, name)| name);
    name.split_once(':').map_or(name, |(name, _)| name) == "ciao-net"
}

/// Docker's API, in the newest version that the engine has.
pub(super) struct Engine {
    client: Client,
    version: (u32, u32),
}

impl Engine {
    pub(super) fn connect(args: &Docker) -> Result<Self> {
        let client = Client::new("dockerd", args.docker_socket.clone())?;
        let version = client.get("/version")?.success()?;
        let text = version["ApiVersion"].as_str().context("read dockerd's reply: it has no API version")?;
        let parsed = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let version = parsed.with_context(|| format!("Docker's API version {text:?} is not a valid version"))?;
        Ok(Self { client, version })
    }

    fn path(&self, rest: &str) -> String {
        format!("/v{}.{}{rest}", self.version.0, self.version.1)
    }

    /// 409: one of that name exists.
    pub(super) fn create_network(&self, body: &Value) -> Result<Response> {
        self.client.post(&self.path("/networks/create"), body)
    }

    /// A missing one is a success, and one that got endpoints meanwhile (403) is in use again.
    pub(super) fn remove_network(&self, id: &str) -> Result<()> {
        let answer = self.client.delete(&self.path(&format!("/networks/{id}")))?;
        if [403, 404].contains(&answer.status) {
            return Ok(());
        }
        answer.success().map(drop).with_context(|| format!("remove network {id}"))
    }

    /// Creates a container, with its image pulled if need be. Returns its id.
    pub(super) fn create_container(&self, container: &Container) -> Result<String> {
        let body = container.body(self.version >= MAC_OF_ENDPOINT);
        let path = self.path(&format!("/containers/create?name={}", container.name));
        let mut answer = self.client.post(&path, &body)?;
        if answer.status == 404 {
            self.pull(container.image)?;
            answer = self.client.post(&path, &body)?;
        }
        let created = answer.success().with_context(|| format!("create container {}", container.name))?;
        created["Id"].as_str().map(str::to_owned).context("read Docker's reply: the container has no id")
    }

    fn pull(&self, image: &str) -> Result<()> {
        let tag = if image.rsplit('/').next().is_some_and(|last| last.contains(':')) { "" } else { "&tag=latest" };
        let pulled = self.client.post(&self.path(&format!("/images/create?fromImage={image}{tag}")), &Value::Null)?;
        let pulled = pulled.success().with_context(|| format!("pull image {image}"))?;
        match pulled["error"].as_str() {
            Some(reason) => bail!("pull image {image}: {reason}"),
            None => Ok(()),
        }
    }

    pub(super) fn start_container(&self, id: &str) -> Result<()> {
        self.client
            .post(&self.path(&format!("/containers/{id}/start")), &Value::Null)?
            .success()
            .map(drop)
            .context("start container")
    }

    /// The container with exactly this name: Docker also takes a prefix of an id for a name.
    pub(super) fn container_called(&self, name: &str) -> Result<Option<Value>> {
        let answer = self.client.get(&self.path(&format!("/containers/{name}/json")))?;
        if answer.status == 404 {
            return Ok(None);
        }
        let container = answer.success().with_context(|| format!("inspect container {name}"))?;
        let is_meant = container["Name"].as_str().is_some_and(|called| called.trim_start_matches('/') == name);
        Ok(is_meant.then_some(container))
    }

    /// A missing one is a success.
    pub(super) fn remove_container(&self, id: &str) -> Result<()> {
        let answer = self.client.delete(&self.path(&format!("/containers/{id}?force=true")))?;
        if answer.status == 404 {
            return Ok(());
        }
        answer.success().map(drop).with_context(|| format!("remove container {id}"))
    }
}

/// A container on a VNIC, with every address given.
pub(super) struct Container<'a> {
    pub(super) name: &'a str,
    pub(super) image: &'a str,
    pub(super) command: &'a [String],
    pub(super) restart: &'a str,
    /// The Docker network's id.
    pub(super) network: &'a str,
    pub(super) vnic: &'a VnicId,
    pub(super) mac: MacAddr,
    pub(super) addresses: Vec<IpAddr>,
}

impl Container<'_> {
    /// The body of `POST /containers/create`.
    fn body(&self, mac_of_endpoint: bool) -> Value {
        let mut addresses = json!({});
        for address in &self.addresses {
            addresses[if address.is_ipv4() { "IPv4Address" } else { "IPv6Address" }] = json!(address);
        }
        let mut endpoint = json!({ "IPAMConfig": addresses, "DriverOpts": { "vnic": self.vnic } });
        let mut body = json!({
            "Image": self.image,
            "HostConfig": { "NetworkMode": self.network, "RestartPolicy": { "Name": self.restart } },
        });
        if !self.command.is_empty() {
            body["Cmd"] = json!(self.command);
        }
        let with_mac = if mac_of_endpoint { &mut endpoint } else { &mut body };
        with_mac["MacAddress"] = json!(self.mac);
        body["NetworkingConfig"] = json!({ "EndpointsConfig": { self.network: endpoint } });
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_managed_plugin_s_networks_are_ours_too() {
        for driver in ["ciao-net", "ciao-net:latest", "registry:5000/x/ciao-net:2"] {
            assert!(is_ours(driver), "{driver}");
        }
        for driver in ["bridge", "ciao-ipam", "ciao-net/other", "x-ciao-net"] {
            assert!(!is_ours(driver), "{driver}");
        }
    }
}
