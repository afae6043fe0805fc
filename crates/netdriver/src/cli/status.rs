// SPDX-License-Identifier: Apache-2.0
//! `status`: how ciao stands on this host, with problems and their remedy.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ciao_common::cli::client::Client;
use ciao_common::cli::table;
use ciao_common::serve::metrics::Problem;
use clap::Args;
use serde_json::{Value, json};

use super::control::Call;
use super::docker::Docker;
use super::swarm;

#[derive(Args)]
pub(super) struct Status {
    /// Plugin socket of ciao-ipam
    #[arg(long, value_name = "SOCKET", default_value = "/run/ciao/ciao-ipam.sock")]
    ipam_socket: PathBuf,
    #[command(flatten)]
    call: Call,
    #[command(flatten)]
    docker: Docker,
}

pub(super) fn run(args: &Status, version: &str) -> Result<()> {
    let mut problems: Vec<Problem> = Vec::new();
    let failed = |check, error: anyhow::Error, remedy| Problem::new(check, format!("{error:#}"), remedy, true);
    let mut status = json!({ "version": version });
    match args.docker.version() {
        Ok(engine) => status["engine"] = json!(engine),
        Err(error) => problems.push(failed("dockerd", error, "start dockerd")),
    }
    let activated =
        || Client::new("ciao-ipam", args.ipam_socket.clone())?.post("/Plugin.Activate", &Value::Null)?.success();
    if let Err(error) = activated() {
        problems.push(failed("ciao-ipam", error, "systemctl start ciao-ipam, or start \"ciao-ipam serve\""));
    }
    match args.call.client()?.get("/v1/status").and_then(|answer| answer.success()) {
        Ok(mut answer) => {
            let own = answer.as_object_mut().and_then(|fields| fields.remove("problems")).unwrap_or_default();
            problems.extend(serde_json::from_value::<Vec<Problem>>(own).context("read the daemon's reply")?);
            for (key, value) in answer.as_object().into_iter().flatten() {
                status[key] = value.clone();
            }
        }
        Err(error) => {
            problems.push(failed("ciao-net", error, "systemctl start ciao-net, or start \"ciao-net serve\""));
        }
    }
    match swarm::problems(&args.docker) {
        Ok(found) => problems.extend(found),
        // Without an engine there is a problem already.
        Err(_) if status["engine"].is_null() => {}
        Err(error) => problems.push(failed("swarm", error, "docker node ls: a swarm needs most of its managers")),
    }
    if args.call.json {
        status["problems"] = json!(problems);
        table::print_one(&status, true)?;
    } else {
        table::print_one(&status, false)?;
        for Problem { check, problem, remedy, .. } in &problems {
            table::print_text(&format!("\nproblem: {check}: {problem}\nremedy:  {remedy}"))?;
        }
    }
    ensure!(problems.is_empty(), "problems found: {}", problems.len());
    Ok(())
}
