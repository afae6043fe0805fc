// SPDX-License-Identifier: Apache-2.0
//! `launch`: a launcher's whole flow on one host.
//!
//! VNIC, `docker network create` if its reply says so, `docker run` fully specified; what was made is removed again
//! when a later step fails.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use ciao_common::cli::client::Client;
use ciao_common::cli::table;
use ciao_common::types::VnicId;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::container::Container;
use super::control::Control;
use super::docker::{Docker, Engine};
use super::lock::LaunchLock;
use super::run_options::RunOptions;
use super::terminate::delete_vnic;
use crate::launcher::{VnicReply, VnicRequest};

/// How long a network may exist in Docker by name and not yet be recorded, because it is being created.
const CREATED_WITHIN: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(super) struct Launch {
    #[command(flatten)]
    vnic: VnicRequest,
    #[command(flatten)]
    control: Control,
    #[command(flatten)]
    docker: Docker,
    #[command(flatten)]
    options: RunOptions,
    /// Image of the container, pulled if missing
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    image: String,
    /// Command of the container [default: the image's]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(super) fn launch(args: Launch) -> Result<()> {
    let (ciao, docker) = (args.control.client()?, Engine::connect(&args.docker)?);
    let lock = LaunchLock::open(&args.control.control)?;
    lock.shared()?;
    let answer = ciao.post("/v1/vnics", &args.vnic.clone().checked()?)?;
    let is_new = answer.status == 201;
    let vnic: VnicReply = serde_json::from_value(answer.success().context("create VNIC")?)?;
    let network = network_for(&ciao, &docker, &lock, &vnic);
    lock.release()?;
    let made = network.as_ref().ok().filter(|network| network.is_new).map(|network| network.id.clone());
    let run = match network.and_then(|network| run(&args, &docker, &vnic, &network.id)) {
        // A VNIC that was there stays, and so does its network.
        Err(error) if is_new => Err(with_rollback(error, undo(&ciao, &docker, &lock, &vnic.id, made.as_deref()))),
        run => run,
    };
    table::print_text(&run?)
}

/// A VNIC's network in Docker.
struct Network {
    id: String,
    /// This launch created it.
    is_new: bool,
}

impl Network {
    fn of_another(id: String) -> Self {
        Self { id, is_new: false }
    }
}

/// The VNIC's network, created unless it exists or another launch creates it.
fn network_for(ciao: &Client, docker: &Engine, lock: &LaunchLock, vnic: &VnicReply) -> Result<Network> {
    let network = vnic.network.as_ref().context("the VNIC has no network")?;
    if let Some(id) = network.id.clone().filter(|_| !network.create) {
        return Ok(Network::of_another(id));
    }
    lock.exclusive()?;
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
    let id = made["Id"].as_str().context("read Docker's reply: the network has no id")?;
    Ok(Network { id: id.to_owned(), is_new: true })
}

/// The VNIC's network, if it exists now.
fn recorded(ciao: &Client, vnic: &VnicId) -> Result<Option<String>> {
    let vnic = ciao.get(&format!("/v1/vnics/{vnic}"))?.success()?;
    let vnic: VnicReply = serde_json::from_value(vnic).context("read the daemon's reply")?;
    Ok(vnic.network.and_then(|network| network.id))
}

/// The VNIC's network, which another launcher is creating.
fn recorded_soon(ciao: &Client, vnic: &VnicId) -> Result<Option<String>> {
    let since = Instant::now();
    loop {
        let id = recorded(ciao, vnic)?;
        if id.is_some() || since.elapsed() >= CREATED_WITHIN {
            return Ok(id);
        }
        sleep(TICK);
    }
}

/// Runs the container on that network. Returns its id.
fn run(args: &Launch, docker: &Engine, vnic: &VnicReply, network: &str) -> Result<String> {
    let container = Container {
        tenant: &args.vnic.tenant,
        instance: &args.vnic.instance,
        options: &args.options,
        image: &args.image,
        command: &args.command,
        network,
        vnic: &vnic.id,
        mac: vnic.mac,
        addresses: vnic.address.into_iter().chain(vnic.address6).collect(),
    };
    let id = docker.create_container(&container)?;
    match docker.start_container(&id) {
        Ok(()) => Ok(id),
        Err(error) => Err(with_rollback(error, docker.remove_container(&id))),
    }
}

/// The error of a failed launch: its cause, and what could not be removed again.
fn with_rollback(error: Error, undo: Result<()>) -> Error {
    match undo {
        Ok(()) => error,
        Err(second) => anyhow!("{error:#}; rollback failed: {second:#}"),
    }
}

/// Deletes a VNIC that this launch created, and the network if it created that too and no other launch needs it now.
fn undo(ciao: &Client, docker: &Engine, lock: &LaunchLock, vnic: &VnicId, made: Option<&str>) -> Result<()> {
    lock.exclusive()?;
    match delete_vnic(ciao, vnic)? {
        Some(network) if made == Some(network.as_str()) => docker.remove_network(&network),
        _ => Ok(()),
    }
}
