//! `launch` and `terminate`: a launcher's whole flow on one host, and its end.
//!
//! VNIC, `docker network create` if its answer says so, `docker run` fully specified; what was made is taken back when
//! a later step fails.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use ciao_common::types::{InstanceId, TenantId, VnicId};
use clap::Args;
use serde_json::Value;

use super::docker::{Container, Docker, Engine};
use super::{Control, Wanted};
use crate::launcher::{DeletionReply, VnicReply};
use ciao_common::cli::client::Client;

/// How long a network may be known to Docker by name and not yet recorded, because it is being made.
const IN_THE_MAKING: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(50);
const TURNS: &str = "take turns with other launches";

#[derive(Args)]
pub(super) struct Launch {
    #[command(flatten)]
    pub(super) wanted: Wanted,
    #[command(flatten)]
    control: Control,
    #[command(flatten)]
    docker: Docker,
    /// As `docker run --restart`: no, on-failure, always, unless-stopped.
    #[arg(long, default_value = "no")]
    pub(super) restart: String,
    /// The container's image, pulled if it is not there.
    pub(super) image: String,
    /// Its command, unless the image's own.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
}

#[derive(Args)]
pub(super) struct Terminate {
    /// The instance.
    instance: InstanceId,
    /// Whose, if several tenants have one of that name.
    #[arg(long)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    control: Control,
    #[command(flatten)]
    docker: Docker,
}

pub(super) fn launch(args: &Launch) -> Result<()> {
    let name = args.wanted.instance.as_str();
    ensure!(
        name.len() > 1,
        "instance {name:?} is too short for the container's name in Docker: give two letters or more"
    );
    let (ciao, docker) = (args.control.server()?, Engine::connect(&args.docker)?);
    let turns = turns(&args.control)?;
    turns.lock_shared().context(TURNS)?;
    let answer = ciao.post("/v1/vnics", &args.wanted.request()?)?;
    let is_new = answer.status == 201;
    let vnic: VnicReply = serde_json::from_value(answer.success().context("create VNIC")?)?;
    let network = network_for(&ciao, &docker, &turns, &vnic);
    turns.unlock().context(TURNS)?;
    let made = network.as_ref().ok().filter(|network| network.is_new).map(|network| network.id.clone());
    let run = match network.and_then(|network| run(args, &docker, &vnic, &network.id)) {
        // A VNIC that was there stays, and so does its network.
        Err(error) if is_new => Err(taken_back(error, undo(&ciao, &docker, &turns, &vnic.id, made.as_deref()))),
        run => run,
    };
    writeln!(std::io::stdout(), "{}", run?).context("write to stdout")
}

/// What this host's launches take turns by: the control socket's folder, locked until its holder ends. Docker makes two
/// networks of one name if asked at once; and whoever removes one must see the VNICs of all who go on with it.
fn turns(control: &Control) -> Result<File> {
    let folder = control.control.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    File::open(folder).with_context(|| format!("open {}", folder.display()))
}

/// A VNIC's network in Docker.
struct Network {
    id: String,
    /// This launch made it.
    is_new: bool,
}

impl Network {
    fn of_another(id: String) -> Self {
        Self { id, is_new: false }
    }
}

/// The VNIC's network, made unless somebody did or does.
fn network_for(ciao: &Client, docker: &Engine, turns: &File, vnic: &VnicReply) -> Result<Network> {
    let network = vnic.network.as_ref().context("the VNIC has no network")?;
    if let Some(id) = network.id.clone().filter(|_| !network.create) {
        return Ok(Network::of_another(id));
    }
    turns.lock().context(TURNS)?;
    if let Some(id) = recorded(ciao, &vnic.id)? {
        return Ok(Network::of_another(id));
    }
    let answer = docker.create_network(&network.docker)?;
    if answer.status == 409
        && let Some(id) = recorded_soon(ciao, &vnic.id)?
    {
        return Ok(Network::of_another(id));
    }
    let made = answer.success().with_context(|| format!("create network {}", network.name))?;
    let id = made["Id"].as_str().context("Docker says no id of the network")?;
    Ok(Network { id: id.to_owned(), is_new: true })
}

/// The VNIC's network, if it is made by now.
fn recorded(ciao: &Client, vnic: &VnicId) -> Result<Option<String>> {
    let vnic = ciao.get(&format!("/v1/vnics/{vnic}"))?.success()?;
    let vnic: VnicReply = serde_json::from_value(vnic).context("read the daemon's answer")?;
    Ok(vnic.network.and_then(|network| network.id))
}

/// The VNIC's network, which another launcher has in the making.
fn recorded_soon(ciao: &Client, vnic: &VnicId) -> Result<Option<String>> {
    let since = Instant::now();
    loop {
        let id = recorded(ciao, vnic)?;
        if id.is_some() || since.elapsed() >= IN_THE_MAKING {
            return Ok(id);
        }
        sleep(TICK);
    }
}

/// The steps at Docker on that network. Answers the container's id.
fn run(args: &Launch, docker: &Engine, vnic: &VnicReply, network: &str) -> Result<String> {
    let container = Container {
        name: args.wanted.instance.as_str(),
        image: &args.image,
        command: &args.command,
        restart: &args.restart,
        network,
        vnic: &vnic.id,
        mac: vnic.mac,
        addresses: vnic.address.into_iter().chain(vnic.address6).collect(),
    };
    let id = docker.create_container(&container)?;
    match docker.start_container(&id) {
        Ok(()) => Ok(id),
        Err(error) => Err(taken_back(error, docker.remove_container(&id))),
    }
}

/// What a failed launch says: its cause, and what it could not take back, which stays for somebody to remove.
fn taken_back(error: Error, undo: Result<()>) -> Error {
    match undo {
        Ok(()) => error,
        Err(second) => anyhow!("{error:#}; what was made is left: {second:#}"),
    }
}

/// Deletes a VNIC that this launch made, and the network if it made that too and no other launch needs it by now.
fn undo(ciao: &Client, docker: &Engine, turns: &File, vnic: &VnicId, made: Option<&str>) -> Result<()> {
    turns.lock().context(TURNS)?;
    match delete_vnic(ciao, vnic)? {
        Some(network) if made == Some(network.as_str()) => docker.remove_network(&network),
        _ => Ok(()),
    }
}

/// Answers the network that nothing is left on.
fn delete_vnic(ciao: &Client, vnic: &VnicId) -> Result<Option<String>> {
    let deleted = ciao.delete(&format!("/v1/vnics/{vnic}"))?.success().context("delete VNIC")?;
    let deleted: DeletionReply = serde_json::from_value(deleted).context("read the daemon's answer")?;
    Ok(deleted.network.filter(|network| network.remove).map(|network| network.id))
}

pub(super) fn terminate(args: &Terminate) -> Result<()> {
    let (ciao, docker) = (args.control.server()?, Engine::connect(&args.docker)?);
    let tenant = args.tenant.as_ref().map_or_else(String::new, |tenant| format!("&tenant={tenant}"));
    let vnics = ciao.get(&format!("/v1/vnics?instance={}{tenant}", args.instance))?.success()?;
    let vnics: Vec<VnicReply> = serde_json::from_value(vnics).context("read the daemon's answer")?;
    if vnics.windows(2).any(|two| two[0].tenant != two[1].tenant) {
        bail!("several tenants have an instance {}: say whose with --tenant", args.instance);
    }
    if vnics.is_empty() {
        let whose = args.tenant.as_ref().map_or_else(String::new, |tenant| format!(" of tenant {tenant}"));
        bail!(
            "instance {}{whose} is unknown, nothing is removed: see \"ciao-net vnic list\"; a container without VNIC \
             goes by \"docker rm\"",
            args.instance
        );
    }
    // Any tenant's container, or one of no tenant, may have this name in Docker.
    if let Some(container) = docker.container_called(args.instance.as_str())? {
        if is_on(&container, &vnics) {
            docker.remove_container(container["Id"].as_str().context("Docker says no id of the container")?)?;
        } else {
            let note = format!("container {} is on no VNIC of the instance: left alone", args.instance);
            writeln!(std::io::stderr(), "ciao-net: {note}").context("write to stderr")?;
        }
    }
    let turns = turns(&args.control)?;
    turns.lock().context(TURNS)?;
    for vnic in vnics {
        if let Some(network) = delete_vnic(&ciao, &vnic.id)? {
            docker.remove_network(&network)?;
        }
    }
    Ok(())
}

/// Whether a container is on one of the VNICs. A stopped one has no endpoint, but still what `launch` asked for.
fn is_on(container: &Value, vnics: &[VnicReply]) -> bool {
    let networks = container["NetworkSettings"]["Networks"].as_object();
    networks.into_iter().flatten().any(|(_, at)| {
        vnics.iter().any(|vnic| {
            at["DriverOpts"]["vnic"] == vnic.id.as_str()
                || vnic.endpoint.as_deref().is_some_and(|endpoint| at["EndpointID"] == endpoint)
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vnic(endpoint: Option<&str>) -> VnicReply {
        let vnic = json!({
            "id": "0123456789", "container_link": "cv0123456789", "host_link": "hv0123456789", "bridge": "br-1",
            "mac": "02:00:c0:a8:6f:02", "allowed_addresses": [], "endpoint": endpoint,
        });
        serde_json::from_value(vnic).unwrap()
    }

    fn container(endpoint: &str, options: &Value) -> Value {
        let at = json!({ "EndpointID": endpoint, "DriverOpts": options });
        json!({ "NetworkSettings": { "Networks": { "bridge": { "EndpointID": "e9" }, "red": at } } })
    }

    #[test]
    fn a_container_is_on_the_vnic_that_its_endpoint_has() {
        assert!(is_on(&container("e1", &Value::Null), &[vnic(Some("e1"))]));
        assert!(!is_on(&container("e2", &Value::Null), &[vnic(Some("e1"))]));
        assert!(!is_on(&json!({}), &[vnic(Some("e1"))]));
    }

    #[test]
    fn a_stopped_container_is_on_the_vnic_that_it_was_launched_with() {
        let launched = json!({ "vnic": "0123456789" });
        assert!(is_on(&container("", &launched), &[vnic(None)]));
        assert!(!is_on(&container("", &json!({ "vnic": "9876543210" })), &[vnic(None)]));
        assert!(!is_on(&container("", &Value::Null), &[vnic(None)]), "two absent endpoints are not the same");
        assert!(!is_on(&container("", &launched), &[]));
    }
}
