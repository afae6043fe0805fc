// SPDX-License-Identifier: Apache-2.0
//! Launchers' VNICs: created before Docker requests an endpoint, deleted on the launcher's request only.

mod outcome;
mod plan;
mod request;
mod set;

use anyhow::Result;
use ciao_common::store::{Endpoint, Network, Owner, Tx, Vnic};
use ciao_common::types::{InstanceId, TenantId, VnicId};
use serde_json::json;

use crate::attachment::{self, Detached};
use crate::kernel::LinkLocation;
use crate::rollback::rolled_back;
use crate::{Driver, fabric, names};
use plan::plan;

pub use outcome::{Change, Creation, Deletion};
pub use request::{DeletionReply, DockerNetwork, RemovableNetwork, VnicReply, VnicRequest};
pub use set::VnicChange;

impl Driver {
    /// Makes a VNIC: veth pair, MAC address, bridge. The same request again is the same VNIC.
    ///
    /// Nothing of a VNIC that could not be created is left.
    pub fn create_vnic(&self, request: VnicRequest) -> Result<Creation<VnicReply>> {
        if let Err(error) = self.fabric.lost.refuse() {
            return Ok(Creation::Conflict(format!("{error:#}")));
        }
        if let Some(bridge) = request.named_bridge()
            && let Err(error) = self.fabric.bridges.check(bridge, request.host_bridge.is_some())
        {
            return Ok(Creation::Conflict(format!("{error:#}")));
        }
        let (vnic, is_new) = match self.store.write(move |tx| plan(tx, &request))? {
            Creation::Created(vnic) => (vnic, true),
            Creation::Existing(vnic) => (vnic, false),
            Creation::Conflict(sentence) => return Ok(Creation::Conflict(sentence)),
        };
        let made = self.fabric.restored(vnic.namespace.as_deref()).and_then(|()| {
            let _lock = self.fabric.lock(vnic.namespace.as_deref());
            self.fabric.vnics.ensure(&vnic)
        });
        if let Err(error) = made {
            return Err(if is_new { rolled_back(error, self.remove(&vnic)) } else { error });
        }
        if let Some(tenant) = vnic.tenant.as_ref().filter(|_| is_new)
            && self.store.read(|tx| Ok(tx.networks_of_tenant(tenant)?.iter().any(|network| network.remote)))?
        {
            self.fabric.follow_networks(tenant)?;
        }
        let reply = self.store.read(|tx| reply(tx, vnic))?;
        Ok(if is_new { Creation::Created(reply) } else { Creation::Existing(reply) })
    }

    /// One VNIC.
    pub fn show_vnic(&self, id: &VnicId) -> Result<Option<VnicReply>> {
        self.store.read(|tx| tx.vnic(id)?.map(|vnic| reply(tx, vnic)).transpose())
    }

    /// The VNICs of a tenant, of an instance, or all.
    pub fn list_vnics(&self, tenant: Option<&TenantId>, instance: Option<&InstanceId>) -> Result<Vec<VnicReply>> {
        self.store.read(|tx| {
            let vnics = tx.vnics(tenant)?.into_iter();
            let meant = vnics.filter(|vnic| instance.is_none() || vnic.instance.as_ref() == instance);
            meant.map(|vnic| reply(tx, vnic)).collect()
        })
    }

    /// Deletes a VNIC, with its reservation. One that is not there is a success; one that a running container has is
    /// refused, unless `force` is given.
    pub fn delete_vnic(&self, id: &VnicId, force: bool) -> Result<Deletion> {
        let Some(vnic) = self.store.read(|tx| tx.vnic(id))? else {
            return Ok(Deletion::Deleted(DeletionReply::default()));
        };
        if !force && self.fabric.kernel.locate(&fabric::veth(&vnic))? == LinkLocation::Container {
            let sentence =
                format!("VNIC {id} is in use by a running container: stop the container first, or use --force");
            return Ok(Deletion::InUse(sentence));
        }
        self.remove(&vnic)?;
        let network = self.store.read(|tx| {
            let Some(network) = network_of(tx, &vnic)? else { return Ok(None) };
            let vnics = tx.vnics_on_bridge(network.namespace.as_deref(), &network.bridge)?;
            let launchers = vnics.iter().any(|other| other.owner == Owner::Launcher && same_subnet(other, &vnic));
            let remove = !launchers && tx.endpoints_of_network(&network.id)?.is_empty();
            Ok(Some(RemovableNetwork { id: network.id.to_string(), remove }))
        })?;
        Ok(Deletion::Deleted(DeletionReply { deleted: true, network }))
    }

    /// Deletes a VNIC's record, its endpoint's, its links, and a bridge that nothing uses any more.
    fn remove(&self, vnic: &Vnic) -> Result<()> {
        let id = vnic.id.clone();
        let detached = self.store.write(move |tx| {
            let detached = match tx.endpoint_of_vnic(&id)? {
                Some(endpoint) => {
                    log::info!("endpoint {} deleted with its VNIC {id}", endpoint.id.short());
                    attachment::detach(tx, &endpoint)?
                }
                None => Detached::default(),
            };
            tx.set_vnic_deleting(&id)?;
            Ok(detached)
        })?;
        self.clean_up(detached);
        self.fabric.vnics.delete(Some(std::slice::from_ref(&vnic.id)))?;
        let _lock = self.fabric.lock(vnic.namespace.as_deref());
        match vnic.namespace.as_deref() {
            Some(namespace) => self.fabric.bridges.tidy(namespace, &vnic.bridge).map(drop),
            None => Ok(()),
        }
    }
}

fn same_subnet(one: &Vnic, other: &Vnic) -> bool {
    one.v4.map(|(subnet, _)| subnet) == other.v4.map(|(subnet, _)| subnet) && one.tenant == other.tenant
}

/// The network that a VNIC's container runs on.
fn network_of(tx: &Tx<'_>, vnic: &Vnic) -> Result<Option<Network>> {
    let networks = tx.networks_on_bridge(vnic.namespace.as_deref(), &vnic.bridge)?;
    let subnet = vnic.v4.or(vnic.v6).map(|(subnet, _)| subnet);
    Ok(networks.into_iter().find(|network| {
        !network.remote
            && network.tenant == vnic.tenant
            && network.subnets.iter().any(|other| Some(other.subnet) == subnet)
    }))
}

fn reply(tx: &Tx<'_>, vnic: Vnic) -> Result<VnicReply> {
    let endpoint: Option<Endpoint> = tx.endpoint_of_vnic(&vnic.id)?;
    let network = docker_network(tx, &vnic)?;
    Ok(VnicReply {
        id: vnic.id,
        container_link: vnic.container_link,
        host_link: vnic.host_link,
        bridge: vnic.bridge,
        namespace: vnic.namespace,
        tenant: vnic.tenant,
        instance: vnic.instance,
        subnet: vnic.v4.map(|(subnet, _)| subnet),
        address: vnic.v4.map(|(_, address)| address),
        mac: vnic.mac,
        gateway: vnic.gateway,
        mtu: vnic.mtu,
        address6: vnic.v6.map(|(_, address)| address),
        subnet6: vnic.v6.map(|(subnet, _)| subnet),
        allowed_addresses: vnic.allowed,
        rate: vnic.rate,
        endpoint: endpoint.map(|endpoint| endpoint.id.to_string()),
        network,
    })
}

/// The Docker network of a launcher's VNIC: what there is, or what to make.
fn docker_network(tx: &Tx<'_>, vnic: &Vnic) -> Result<Option<DockerNetwork>> {
    let (Some(tenant), Some((subnet, _)), Owner::Launcher) = (&vnic.tenant, vnic.v4, vnic.owner) else {
        return Ok(None);
    };
    let name = vnic.network_name.clone().unwrap_or_else(|| names::docker_network(tenant, subnet));
    let id = network_of(tx, vnic)?.map(|network| network.id.to_string());
    let bridge = if vnic.namespace.is_some() { "bridge" } else { "host_bridge" };
    let mut options = json!({ "tenant": tenant, bridge: vnic.bridge });
    if let Some(mtu) = vnic.mtu {
        options[ciao_common::api::network::MTU] = json!(mtu.to_string());
    }
    // The subnet is on other hosts too.
    let tunnels = vnic.namespace.as_ref().map(|namespace| tx.tunnels_on_bridge(namespace, &vnic.bridge)).transpose()?;
    if let Some(tunnel) = tunnels.iter().flatten().next() {
        options["vni"] = json!(tunnel.vni.to_string());
    }
    let mut config = vec![json!({ "Subnet": subnet, "Gateway": vnic.gateway })];
    if let Some((subnet6, _)) = vnic.v6 {
        config.push(json!({ "Subnet": subnet6, "Gateway": subnet6.first_usable() }));
    }
    let docker = json!({
        "Name": name,
        "CheckDuplicate": true,
        "Driver": "ciao-net",
        "EnableIPv6": vnic.v6.is_some() || subnet.network().is_ipv6(),
        "IPAM": { "Driver": "ciao-ipam", "Options": { "tenant": tenant }, "Config": config },
        "Options": options,
    });
    Ok(Some(DockerNetwork { name, create: id.is_none(), id, docker }))
}
