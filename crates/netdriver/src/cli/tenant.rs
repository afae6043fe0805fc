// SPDX-License-Identifier: Apache-2.0
//! `tenant`: tenants, and the removal of all that one has.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ciao_common::cli::table::{self, Database, List};
use ciao_common::store::Store;
use ciao_common::types::TenantId;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::container::TENANT;
use super::control::Control;
use super::docker::{Docker, Engine};
use super::lock::LaunchLock;
use super::terminate::{delete_vnic, is_on};
use crate::launcher::VnicReply;
use crate::names;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List tenants
    #[command(visible_alias = "ls")]
    List(List),
    /// Show a tenant: its networks, VNICs and containers' endpoints
    Show(Show),
    /// Delete a tenant's VNICs, its Docker networks and, with --force, its containers
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

#[derive(Args)]
pub(super) struct Show {
    /// Name of the tenant
    tenant: TenantId,
    #[command(flatten)]
    database: Database,
    /// Output as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Delete {
    /// Name of the tenant
    tenant: TenantId,
    /// Remove its containers too, running ones included
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    control: Control,
    #[command(flatten)]
    docker: Docker,
}

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::List(list) => list.run("tenant", "tenant"),
        Command::Show(args) => show(&args),
        Command::Delete(args) => delete(&args),
    }
}

fn show(args: &Show) -> Result<()> {
    let tenant = &args.tenant;
    let (summary, lists) = Store::open_reading(&args.database.db)?.read(|tx| {
        let mut lists = BTreeMap::new();
        for view in ["network", "vnic", "endpoint", "port"] {
            lists.insert(view, tx.view(view, Some(tenant))?);
        }
        Ok((tx.view("tenant", Some(tenant))?.pop(), lists))
    })?;
    let mut summary = summary.with_context(|| format!("tenant {tenant} is unknown: see \"ciao-net tenant list\""))?;
    summary.insert("namespace".to_owned(), names::tenant_namespace(tenant).into());
    if args.json {
        for (name, rows) in lists {
            summary.insert(format!("{name}_list"), json!(rows));
        }
        return table::print_one(&summary, true);
    }
    table::print_one(&summary, false)?;
    for (name, rows) in lists.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        table::print_text(&format!("\n{name}s"))?;
        table::print(&rows, false)?;
    }
    Ok(())
}

fn delete(args: &Delete) -> Result<()> {
    let (ciao, docker) = (args.control.client()?, Engine::connect(&args.docker)?);
    let tenant = &args.tenant;
    let vnics = ciao.get(&format!("/v1/vnics?tenant={tenant}"))?.success()?;
    let vnics: Vec<VnicReply> = serde_json::from_value(vnics).context("read the daemon's reply")?;
    let networks = docker.networks_of(tenant.as_str())?;
    let mut containers = docker.containers()?;
    containers.retain(|container| {
        let on_network = |id: &Value| networks.iter().any(|(network, _)| id == network);
        let at = container["NetworkSettings"]["Networks"].as_object();
        container["Labels"][TENANT] == tenant.as_str()
            || is_on(container, &vnics)
            || at.into_iter().flatten().any(|(_, at)| on_network(&at["NetworkID"]))
    });
    ensure!(
        !(vnics.is_empty() && networks.is_empty() && containers.is_empty()),
        "tenant {tenant} is unknown: see \"ciao-net tenant list\""
    );
    let name = |container: &Value| container["Names"][0].as_str().unwrap_or("?").trim_start_matches('/').to_owned();
    ensure!(
        args.force || containers.is_empty(),
        "tenant {tenant} has containers ({}): remove them first, or give --force",
        containers.iter().map(name).collect::<Vec<_>>().join(", ")
    );
    for container in &containers {
        let id = container["Id"].as_str().context("read Docker's reply: a container has no id")?;
        docker.remove_container(id)?;
    }
    let lock = LaunchLock::open(&args.control.control)?;
    lock.exclusive()?;
    // Docker's own go with their endpoints.
    let own: Vec<_> = vnics.iter().filter(|vnic| vnic.instance.is_some()).collect();
    own.iter().try_for_each(|vnic| delete_vnic(&ciao, &vnic.id).map(drop))?;
    networks.iter().try_for_each(|(id, _)| docker.remove_network(id))?;
    let (containers, vnics, networks) = (containers.len(), own.len(), networks.len());
    table::print_text(&format!(
        "deleted {containers} containers, {vnics} VNICs, {networks} networks of tenant {tenant}"
    ))
}
