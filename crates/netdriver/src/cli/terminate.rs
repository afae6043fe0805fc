// SPDX-License-Identifier: Apache-2.0
//! `terminate`: an instance's container, VNICs and unused networks removed.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use ciao_common::cli::client::Client;
use ciao_common::types::{InstanceId, TenantId, VnicId};
use clap::Args;
use serde_json::Value;

use super::container::{INSTANCE, TENANT};
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
    let mut containers = docker.containers()?;
    let meant = args.tenant.as_ref().map(TenantId::as_str);
    containers.retain(|container| is_instance(container, args.instance.as_str(), meant) || is_on(container, &vnics));
    let labels = containers.iter().filter_map(|container| container["Labels"][TENANT].as_str());
    let tenants = labels.chain(vnics.iter().filter_map(|vnic| vnic.tenant.as_ref().map(TenantId::as_str)));
    let tenants: BTreeSet<_> = tenants.collect();
    if tenants.len() > 1 {
        bail!("several tenants have an instance {}: give --tenant", args.instance);
    }
    if vnics.is_empty() && containers.is_empty() {
        let of = args.tenant.as_ref().map_or_else(String::new, |tenant| format!(" of tenant {tenant}"));
        bail!(
            "instance {}{of} is unknown, nothing was removed: see \"ciao-net vnic list\"; remove a container without \
             a VNIC with \"docker rm\"",
            args.instance
        );
    }
    // Launched before there were labels, and stopped: known by its name and by what it was launched with.
    let former = docker.container_called(args.instance.as_str())?;
    let former = former.filter(|container| is_on(container, &vnics));
    let mut ids = BTreeSet::new();
    for container in containers.iter().chain(&former) {
        ids.insert(container["Id"].as_str().context("read Docker's reply: a container has no id")?);
    }
    ids.into_iter().try_for_each(|id| docker.remove_container(id))?;
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

/// Whether a container of Docker's list was launched as that instance, of that tenant or of any.
fn is_instance(container: &Value, instance: &str, tenant: Option<&str>) -> bool {
    let labels = &container["Labels"];
    labels[INSTANCE] == instance && labels[TENANT].as_str().is_some_and(|of| tenant.is_none_or(|tenant| of == tenant))
}

/// Whether a container is on one of the VNICs. A stopped one has no endpoint, but still the options of `launch`.
pub(super) fn is_on(container: &Value, vnics: &[VnicReply]) -> bool {
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
    fn a_container_is_the_instance_that_its_labels_name() {
        let launched = json!({ "Labels": { "ciao.tenant": "red", "ciao.instance": "web" } });
        assert!(is_instance(&launched, "web", None) && is_instance(&launched, "web", Some("red")));
        assert!(!is_instance(&launched, "web", Some("blue")) && !is_instance(&launched, "db", None));
        for other in [json!({}), json!({ "Labels": null }), json!({ "Labels": { "ciao.instance": "web" } })] {
            assert!(!is_instance(&other, "web", None));
        }
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
