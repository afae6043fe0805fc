// SPDX-License-Identifier: Apache-2.0
//! Docker's API, used by the command line and never by the daemon: dockerd holds locks while it waits for a plugin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::listing::{ListedNetwork, is_plugin};
use ciao_common::cli::client::{Client, Method, Response};
use clap::Args;
use serde_json::{Value, json};

use super::container::{Container, INSTANCE, TENANT};
use super::pull::Progress;
use super::run_options::Pull;
use crate::reconcile::{Known, Recorded};

/// From this version on an endpoint has a MAC address of its own; before, the container has one (moby#45905).
const MAC_OF_ENDPOINT: (u32, u32) = (1, 44);

#[derive(Args)]
pub(super) struct Docker {
    /// Docker's socket
    #[arg(long, value_name = "SOCKET", default_value = "/var/run/docker.sock")]
    docker_socket: PathBuf,
}

impl Docker {
    pub(super) fn client(&self) -> Result<Client> {
        Client::new("dockerd", self.docker_socket.clone())
    }

    /// The engine's version.
    pub(super) fn version(&self) -> Result<String> {
        let version = self.client()?.get("/version")?.success()?;
        version["Version"].as_str().map(str::to_owned).context("read dockerd's reply: it has no version")
    }
}

/// The ids of the engine, its networks, and the endpoints on ours; with details of what is not recorded, and of other
/// drivers' networks that have their addresses from ciao-ipam.
pub(super) fn known(docker: &Docker, recorded: &Recorded) -> Result<Known> {
    let networks = Engine::connect(docker)?.networks()?;
    let docker = docker.client()?;
    let (mut endpoints, mut details, mut others) = (BTreeSet::new(), Vec::new(), Vec::new());
    let is_ipam = |network: &Value| network["IPAM"]["Driver"].as_str().is_some_and(|name| is_plugin(name, "ciao-ipam"));
    for network in &networks {
        let is_own = network["Driver"].as_str().is_some_and(is_ours);
        if !is_own && (!is_ipam(network) || network["ConfigOnly"] == true) {
            continue;
        }
        let id = network["Id"].as_str().context("read dockerd's reply: a network has no id")?;
        let reply = docker.get(&format!("/networks/{id}"))?;
        // It may be deleted since.
        if reply.status == 404 {
            continue;
        }
        let listed = serde_json::from_value::<ListedNetwork>(reply.success()?);
        let mut listed = listed.with_context(|| format!("read dockerd's reply about network {id}"))?;
        if !is_own {
            others.push(listed);
            continue;
        }
        let mut is_lost = !recorded.networks.contains(&listed.id);
        for (container, endpoint) in &mut listed.containers {
            endpoints.insert(endpoint.endpoint_id.clone());
            if !recorded.endpoints.contains(&endpoint.endpoint_id) {
                is_lost = true;
                let found = docker.get(&format!("/containers/{container}/json"))?.body;
                let bindings = found["HostConfig"]["PortBindings"].as_object();
                endpoint.publishes = bindings.is_some_and(|ports| !ports.is_empty());
            }
        }
        if is_lost {
            details.push(listed);
        }
    }
    others.sort_by_key(|network| network.ipam.config.first().map(|config| config.subnet.to_string()));
    details.extend(others);
    let ids = networks.iter().map(|network| Ok(serde_json::from_value(network["Id"].clone())?));
    let networks = ids.collect::<Result<_>>().context("read the ids of dockerd's networks")?;
    let engine = docker.get("/info")?.success()?["ID"].as_str().map(str::to_owned);
    Ok(Known { engine, networks, endpoints: Some(endpoints), details, more: false, first: false, age: 0 })
}

fn is_ours(driver: &str) -> bool {
    is_plugin(driver, "ciao-net")
}

/// The id of a network that is called so, as Docker resolves names and prefixes; the text itself where Docker is not
/// asked, because it does not run, or has no such network: the daemon knows ids and their prefixes.
pub(super) fn network_id(docker: &Docker, name: &str) -> Result<String> {
    let client = docker.client()?;
    let Ok(answer) = client.get(&format!("/networks/{}", encoded(name))) else { return Ok(name.to_owned()) };
    if answer.status == 404 {
        return Ok(name.to_owned());
    }
    let network = answer.success().with_context(|| format!("look up network {name}"))?;
    let driver = network["Driver"].as_str().unwrap_or_default();
    ensure!(is_ours(driver), "network {name} is of driver {driver}, and not ciao-net's");
    network["Id"].as_str().map(str::to_owned).context("read dockerd's reply: a network has no id")
}

/// Docker's API, in the newest version that the engine has.
pub(super) struct Engine {
    client: Client,
    version: (u32, u32),
}

impl Engine {
    pub(super) fn connect(args: &Docker) -> Result<Self> {
        let client = args.client()?;
        let version = client.get("/version")?.success()?;
        let text = version["ApiVersion"].as_str().context("read dockerd's reply: it has no API version")?;
        let parsed = text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let version = parsed.with_context(|| format!("Docker's API version {text:?} is not a valid version"))?;
        Ok(Self { client, version })
    }

    fn path(&self, rest: &str) -> String {
        format!("/v{}.{}{rest}", self.version.0, self.version.1)
    }

    /// All networks, as Docker's list has them.
    fn networks(&self) -> Result<Vec<Value>> {
        let networks = self.client.get(&self.path("/networks"))?.success()?;
        networks.as_array().cloned().context("read dockerd's reply: its networks are not a list")
    }

    /// The names of networks, and of running containers by their endpoints; by the first 12 digits of an ID.
    pub(super) fn names(&self) -> Result<BTreeMap<String, String>> {
        let text = |value: &Value| value.as_str().unwrap_or_default().trim_start_matches('/').to_owned();
        let networks = self.networks()?.into_iter().map(|network| (text(&network["Id"]), text(&network["Name"])));
        let mut names: BTreeMap<_, _> = networks.collect();
        for container in self.containers()? {
            let at = container["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
            names.extend(at.map(|(_, at)| (text(&at["EndpointID"]), text(&container["Names"][0]))));
        }
        Ok(names)
    }

    /// The networks of ciao-net that belong to a tenant: their ids and names.
    pub(super) fn networks_of(&self, tenant: &str) -> Result<Vec<(String, String)>> {
        let networks = self.networks()?;
        let meant = networks.iter().filter(|network| {
            let options = [&network["Options"]["tenant"], &network["IPAM"]["Options"]["tenant"]];
            network["Driver"].as_str().is_some_and(is_ours) && options.contains(&&json!(tenant))
        });
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(meant.map(|network| (text(&network["Id"]), text(&network["Name"]))).collect())
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

    /// Creates a container, with its image pulled as the options say. Returns its id.
    pub(super) fn create_container(&self, container: &Container) -> Result<String> {
        let (name, pull) = (container.name(), container.options.pull);
        let body = container.body(self.version >= MAC_OF_ENDPOINT)?;
        let path = self.path(&format!("/containers/create?name={}", encoded(&name)));
        if pull == Pull::Always {
            self.pull(container.image)?;
        }
        let mut answer = self.client.post(&path, &body)?;
        if answer.status == 404 && pull == Pull::Missing {
            self.pull(container.image)?;
            answer = self.client.post(&path, &body)?;
        }
        if answer.status == 409
            && let Some(other) = self.container_called(&name)?
        {
            bail!("container name {name} is taken by {}: remove that one, or give --name", described(&other));
        }
        let created = answer.success().with_context(|| format!("create container {name}"))?;
        created["Id"].as_str().map(str::to_owned).context("read Docker's reply: the container has no id")
    }

    fn pull(&self, image: &str) -> Result<()> {
        let last = image.rsplit('/').next().unwrap_or(image);
        let tag = if last.contains([':', '@']) { "" } else { "&tag=latest" };
        let mut progress = Progress::new(image);
        let path = self.path(&format!("/images/create?fromImage={}{tag}", encoded(image)));
        let answer = self.client.follow(Method::POST, &path, |value| progress.show(&value))?;
        answer.success().with_context(|| format!("pull image {image}"))?;
        progress.error.map_or(Ok(()), |reason| bail!("pull image {image}: {reason}"))
    }

    pub(super) fn start_container(&self, id: &str) -> Result<()> {
        self.client
            .post(&self.path(&format!("/containers/{id}/start")), &Value::Null)?
            .success()
            .map(drop)
            .context("start container")
    }

    /// All containers, as Docker's list has them.
    pub(super) fn containers(&self) -> Result<Vec<Value>> {
        let containers = self.client.get(&self.path("/containers/json?all=true"))?.success()?;
        containers.as_array().cloned().context("read dockerd's reply: its containers are not a list")
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

/// A container in a sentence: its id, and whose instance it is or its image.
fn described(container: &Value) -> String {
    let id = container["Id"].as_str().unwrap_or_default();
    let (config, id) = (&container["Config"], &id[..id.len().min(12)]);
    match (config["Labels"][TENANT].as_str(), config["Labels"][INSTANCE].as_str()) {
        (Some(tenant), Some(instance)) => format!("container {id}, instance {instance} of tenant {tenant}"),
        _ => format!("container {id}, image {}", config["Image"].as_str().unwrap_or("unknown")),
    }
}

/// A value in a URL's path or query.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") }).collect()
}
