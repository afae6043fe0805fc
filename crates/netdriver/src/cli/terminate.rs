// SPDX-License-Identifier: Apache-2.0
//! `terminate`: an instance's container, VNICs and unused networks removed.

use std::io::Write;

use anyhow::{Context, Result, bail};
use ciao_common::cli::client::Client;
use ciao_common::types::{InstanceId, TenantId, VnicId};
use clap::Args;
use serde_json::Value;

use super::control::Control;
use super::docker::{Docker, Engine};
use super::lock::LaunchLock;
use crate::launcher::{DeletionReply, VnicReply};

#[derive(Args)]
pub(super) struct Terminate {
    /// Name of the instance
    instance: InstanceId,
    /// Tenant of the instance, if its name is not unique
    #[arg(long)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    control: Control,
    #[command(flatten)]
    docker: Docker,
}

pub(super) fn terminate(args: &Terminate) -> Result<()> {
    let (ciao, docker) = (args.control.client()?, Engine::connect(&args.docker)?);
    let tenant = args.tenant.as_ref().map_or_else(String::new, |tenant| format!("&tenant={tenant}"));
    let vnics = ciao.get(&format!("/v1/vnics?instance={}{tenant}", args.instance))?.success()?;
    let vnics: Vec<VnicReply> = serde_json::from_value(vnics).context("read the daemon's reply")?;
    if vnics.windows(2).any(|two| two[0].tenant != two[1].tenant) {
        bail!("several tenants have an instance {}: give --tenant", args.instance);
    }
    if vnics.is_empty() {
        let of = args.tenant.as_ref().map_or_else(String::new, |tenant| format!(" of tenant {tenant}"));
        bail!(
            "instance {}{of} is unknown, nothing was removed: see \"ciao-net vnic list\"; remove a container without \
             a VNIC with \"docker rm\"",
            args.instance
        );
    }
    // Any tenant's container, or one of no tenant, may have this name in Docker.
    if let Some(container) = docker.container_called(args.instance.as_str())? {
        if is_on(&container, &vnics) {
            docker
                .remove_container(container["Id"].as_str().context("read Docker's reply: the container has no id")?)?;
        } else {
            let note = format!("container {} uses no VNIC of the instance: not removed", args.instance);
            writeln!(std::io::stderr(), "ciao-net: {note}").context("write to stderr")?;
        }
    }
    let lock = LaunchLock::open(&args.control.control)?;
    lock.exclusive()?;
    for vnic in vnics {
        if let Some(network) = delete_vnic(&ciao, &vnic.id)? {
            docker.remove_network(&network)?;
        }
    }
    Ok(())
}

/// Deletes a VNIC. Returns its network, if nothing is left on it.
pub(super) fn delete_vnic(ciao: &Client, vnic: &VnicId) -> Result<Option<String>> {
    let deleted = ciao.delete(&format!("/v1/vnics/{vnic}"))?.success().context("delete VNIC")?;
    let deleted: DeletionReply = serde_json::from_value(deleted).context("read the daemon's reply")?;
    Ok(deleted.network.filter(|network| network.remove).map(|network| network.id))
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
