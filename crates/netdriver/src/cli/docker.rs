//! What the command line asks of Docker's API, and of the daemon never: dockerd holds locks while it waits for a plugin.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use ciao_common::cli::client::{Client, Response};
use clap::Args;
use serde_json::{Value, json};

use super::launch::Launch;
use crate::launcher::VnicReply;

/// From this version on an endpoint has a MAC address of its own; before, the container has one (moby#45905).
const MAC_OF_ENDPOINT: (u32, u32) = (1, 44);

#[derive(Args)]
pub(super) struct Docker {
    /// Docker's socket.
    #[arg(long, value_name = "SOCKET", default_value = "/var/run/docker.sock")]
    docker_socket: PathBuf,
}

/// The ids of all networks that Docker knows, and of the endpoints on ours, as the control socket takes them.
pub(super) fn known(docker: &Docker) -> Result<Value> {
    let docker = Client::new("dockerd", docker.docker_socket.clone())?;
    let networks = docker.get("/networks")?.success()?;
    let networks = networks.as_array().context("dockerd's list of networks is no list")?;
    let mut endpoints = Vec::new();
    for network in networks.iter().filter(|network| network["Driver"] == "ciao-net") {
        let id = network["Id"].as_str().context("a network of dockerd's list has no id")?;
        let reply = docker.get(&format!("/networks/{id}"))?;
        // It may be gone since.
        if reply.status != 404 {
            let containers = &reply.success()?["Containers"];
            endpoints.extend(containers.as_object().into_iter().flatten().map(|(_, at)| at["EndpointID"].clone()));
        }
    }
    let ids: Vec<_> = networks.iter().map(|network| &network["Id"]).collect();
    Ok(json!({ "networks": ids, "endpoints": endpoints }))
}

/// Docker's API, in the newest version that the engine has.
pub(super) struct Engine {
    server: Client,
    version: (u32, u32),
}

impl Engine {
    pub(super) fn connect(args: &Docker) -> Result<Self> {
        let server = Client::new("dockerd", args.docker_socket.clone())?;
        let version = server.get("/version")?.success()?;
        let text = version["ApiVersion"].as_str().context("Docker says no API version")?;
        let parsed = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let version = parsed.with_context(|| format!("Docker's API version {text:?} is no version"))?;
        Ok(Self { server, version })
    }

    fn path(&self, rest: &str) -> String {
        format!("/v{}.{}{rest}", self.version.0, self.version.1)
    }

    /// 409: there is one of that name.
    pub(super) fn create_network(&self, body: &Value) -> Result<Response> {
        self.server.post(&self.path("/networks/create"), body)
    }

    /// One that is not there is a success, and one that got endpoints meanwhile (403) is somebody's again.
    pub(super) fn remove_network(&self, id: &str) -> Result<()> {
        let answer = self.server.delete(&self.path(&format!("/networks/{id}")))?;
        if [403, 404].contains(&answer.status) {
            return Ok(());
        }
        answer.success().map(drop).with_context(|| format!("remove network {id}"))
    }

    pub(super) fn create_container(&self, args: &Launch, vnic: &VnicReply, network: &str) -> Result<String> {
        let body = self.container(args, vnic, network);
        let path = self.path(&format!("/containers/create?name={}", args.wanted.instance));
        let mut answer = self.server.post(&path, &body)?;
        if answer.status == 404 {
            self.pull(&args.image)?;
            answer = self.server.post(&path, &body)?;
        }
        let made = answer.success().with_context(|| format!("create container {}", args.wanted.instance))?;
        made["Id"].as_str().map(str::to_owned).context("Docker says no id of the container")
    }

    /// The body of `POST /containers/create`, with every address given.
    fn container(&self, args: &Launch, vnic: &VnicReply, network: &str) -> Value {
        let mut addresses = json!({});
        for (address, v4, v6) in
            [(vnic.address, "IPv4Address", "IPv6Address"), (vnic.address6, "IPv4Address", "IPv6Address")]
        {
            if let Some(address) = address {
                addresses[if address.is_ipv4() { v4 } else { v6 }] = json!(address);
            }
        }
        let mut endpoint = json!({ "IPAMConfig": addresses, "DriverOpts": { "vnic": vnic.id } });
        let mut body = json!({ "Image": args.image });
        if !args.command.is_empty() {
            body["Cmd"] = json!(args.command);
        }
        if self.version >= MAC_OF_ENDPOINT {
            endpoint["MacAddress"] = json!(vnic.mac);
        } else {
            body["MacAddress"] = json!(vnic.mac);
        }
        body["HostConfig"] = json!({ "NetworkMode": network, "RestartPolicy": { "Name": args.restart } });
        body["NetworkingConfig"] = json!({ "EndpointsConfig": { network: endpoint } });
        body
    }

    fn pull(&self, image: &str) -> Result<()> {
        let tag = if image.rsplit('/').next().is_some_and(|last| last.contains(':')) { "" } else { "&tag=latest" };
        let ended = self.server.post(&self.path(&format!("/images/create?fromImage={image}{tag}")), &Value::Null)?;
        let ended = ended.success().with_context(|| format!("pull image {image}"))?;
        match ended["error"].as_str() {
            Some(reason) => bail!("pull image {image}: {reason}"),
            None => Ok(()),
        }
    }

    pub(super) fn start_container(&self, id: &str) -> Result<()> {
        self.server
            .post(&self.path(&format!("/containers/{id}/start")), &Value::Null)?
            .success()
            .map(drop)
            .context("start container")
    }

    /// What Docker says of the container with this very name: asked for a name, it takes the beginning of an id too.
    pub(super) fn container_called(&self, name: &str) -> Result<Option<Value>> {
        let answer = self.server.get(&self.path(&format!("/containers/{name}/json")))?;
        if answer.status == 404 {
            return Ok(None);
        }
        let container = answer.success().with_context(|| format!("look at container {name}"))?;
        let is_meant = container["Name"].as_str().is_some_and(|called| called.trim_start_matches('/') == name);
        Ok(is_meant.then_some(container))
    }

    /// One that is not there is a success.
    pub(super) fn remove_container(&self, id: &str) -> Result<()> {
        let answer = self.server.delete(&self.path(&format!("/containers/{id}?force=true")))?;
        if answer.status == 404 {
            return Ok(());
        }
        answer.success().map(drop).with_context(|| format!("remove container {id}"))
    }
}
