//! The launcher's side: VNICs made before Docker asks, and deleted when the launcher says so.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ciao_common::store::{Endpoint, Held, Network, Owner, Scope, Tx, Vnic};
use ciao_common::types::{InstanceId, LinkName, MacAddr, Rate, Subnet, TenantId, VnicId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kernel::Place;
use crate::{Driver, endpoint, names, options, wiring};

/// What a launcher asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VnicRequest {
    /// Whose.
    pub tenant: TenantId,
    /// What it is for.
    pub instance: InstanceId,
    /// The IPv4 subnet (or an IPv6 one, if the instance has no IPv4).
    pub subnet: Subnet,
    /// The instance's address in it.
    pub address: IpAddr,
    /// Of the instance's interface.
    pub mac: MacAddr,
    /// The subnet's gateway; the subnet's first address unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// In bytes; the kernel's default unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The tenant's bridge; one for the subnet unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<LinkName>,
    /// A second address, for dual stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<IpAddr>,
    /// Its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<Subnet>,
    /// Further addresses that the instance may send with, such as a virtual IP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_addresses: Vec<IpAddr>,
    /// How fast it may be, each way, such as `100mbit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The Docker network's name; one made of tenant and subnet unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// A VNIC, as a launcher sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VnicReply {
    /// Ours.
    pub id: VnicId,
    /// The container's end, in the host's namespace until Docker takes it.
    pub container_link: LinkName,
    /// The end on the bridge.
    pub host_link: LinkName,
    /// The bridge.
    pub bridge: LinkName,
    /// The bridge's network namespace; absent: the host's.
    pub namespace: Option<String>,
    /// Whose.
    pub tenant: Option<TenantId>,
    /// What it is for.
    pub instance: Option<InstanceId>,
    /// As asked.
    pub subnet: Option<Subnet>,
    /// As asked.
    pub address: Option<IpAddr>,
    /// Of the container's end.
    pub mac: MacAddr,
    /// As asked, or the subnet's first address.
    pub gateway: Option<IpAddr>,
    /// As asked.
    pub mtu: Option<u32>,
    /// As asked.
    pub address6: Option<IpAddr>,
    /// As asked.
    pub subnet6: Option<Subnet>,
    /// As asked.
    pub allowed_addresses: Vec<IpAddr>,
    /// As asked.
    pub rate: Option<Rate>,
    /// Docker's endpoint that has it.
    pub endpoint: Option<String>,
    /// The Docker network that its container runs on.
    pub network: Option<DockerNetwork>,
}

/// A subnet's Docker network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DockerNetwork {
    /// Its name, if it was made by this description.
    pub name: String,
    /// Docker's id; absent: it is not made yet.
    pub id: Option<String>,
    /// Whether it must be made.
    pub create: bool,
    /// The body for Docker's `POST /networks/create`.
    pub docker: Value,
}

/// What became of a request for a VNIC.
pub enum Creation {
    /// It was made.
    Made(VnicReply),
    /// It was there.
    There(VnicReply),
    /// Somebody else has its address or MAC address: a sentence.
    Taken(String),
}

/// What became of a request to delete a VNIC.
pub enum Deletion {
    /// It is gone, now or before.
    Gone(DeletionReply),
    /// A running container has it: a sentence.
    InUse(String),
}

/// A deletion, as a launcher sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeletionReply {
    /// Whether it was there.
    pub deleted: bool,
    /// The Docker network that its container ran on, if there is one.
    pub network: Option<RemovableNetwork>,
}

/// Whether a Docker network can go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemovableNetwork {
    /// Docker's id.
    pub id: String,
    /// No VNIC of a launcher and no endpoint is left on it.
    pub remove: bool,
}

impl VnicRequest {
    /// Fills in what may be left open, and checks that it makes sense.
    ///
    /// # Errors
    /// A sentence that names the value.
    pub fn checked(mut self) -> Result<Self> {
        inside(self.subnet, self.address)?;
        let gateway = *self.gateway.get_or_insert_with(|| self.subnet.first_usable());
        ensure!(self.subnet.contains(gateway), "gateway {gateway} is outside of subnet {}", self.subnet);
        ensure!(
            gateway != self.address,
            "address {gateway} is the gateway's: give another address, or another gateway"
        );
        match (self.subnet6, self.address6) {
            (None, None) => {}
            (Some(subnet), Some(address)) => {
                ensure!(subnet.network().is_ipv6(), "subnet6 {subnet} is no IPv6 subnet");
                ensure!(self.subnet.network().is_ipv4(), "subnet {} with subnet6 must be an IPv4 subnet", self.subnet);
                inside(subnet, address)?;
            }
            (Some(subnet), None) => anyhow::bail!("subnet6 {subnet} needs address6"),
            (None, Some(address)) => anyhow::bail!("address6 {address} needs subnet6"),
        }
        self.mtu.map(options::check_mtu).transpose()?;
        if let Some(name) = &self.network {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            ensure!(
                !name.is_empty() && name.bytes().all(good) && name.as_bytes()[0].is_ascii_alphanumeric(),
                "network {name:?} is no name that Docker takes: letters, digits, '_', '.' and '-'"
            );
        }
        Ok(self)
    }
}

fn inside(subnet: Subnet, address: IpAddr) -> Result<()> {
    ensure!(subnet.contains(address), "address {address} is outside of subnet {subnet}: give one inside");
    let usable = subnet.usable().contains(ciao_common::types::key(address).1);
    ensure!(usable, "address {address} of subnet {subnet} is the network's or broadcast address: give another one");
    Ok(())
}

/// What the store says to a request.
enum Plan {
    New(Box<Vnic>),
    Same(Box<Vnic>),
    Taken(String),
}

impl Driver {
    /// Makes a VNIC: veth pair, MAC address, bridge. The same request again is the same VNIC.
    ///
    /// # Errors
    /// The disk's or kernel's; a bridge that contradicts the subnet's others. Nothing half made is left.
    pub fn create_vnic(&self, request: VnicRequest) -> Result<Creation> {
        let tenant = names::tenant_namespace(&request.tenant);
        let on_host = self.wiring.namespace_for(request.bridge.as_ref(), tenant)?.is_none();
        let (plan, is_new) = match self.store.write(move |tx| plan(tx, &request, on_host))? {
            Plan::New(vnic) => (vnic, true),
            Plan::Same(vnic) => (vnic, false),
            Plan::Taken(sentence) => return Ok(Creation::Taken(sentence)),
        };
        let made = {
            let _lock = self.wiring.lock(plan.namespace.as_deref());
            self.wiring.ensure_vnic(&plan)
        };
        if let Err(error) = made {
            if is_new {
                self.remove(&plan).context("and undo what was half made")?;
            }
            return Err(error);
        }
        let reply = self.store.read(|tx| reply(tx, *plan))?;
        Ok(if is_new { Creation::Made(reply) } else { Creation::There(reply) })
    }

    /// One VNIC.
    ///
    /// # Errors
    /// The disk's.
    pub fn show_vnic(&self, id: &VnicId) -> Result<Option<VnicReply>> {
        self.store.read(|tx| tx.vnic(id)?.map(|vnic| reply(tx, vnic)).transpose())
    }

    /// The VNICs of a tenant, of an instance, or all.
    ///
    /// # Errors
    /// The disk's.
    pub fn list_vnics(&self, tenant: Option<&TenantId>, instance: Option<&InstanceId>) -> Result<Vec<VnicReply>> {
        self.store.read(|tx| {
            let vnics = tx.vnics(tenant)?.into_iter();
            let meant = vnics.filter(|vnic| instance.is_none() || vnic.instance.as_ref() == instance);
            meant.map(|vnic| reply(tx, vnic)).collect()
        })
    }

    /// Deletes a VNIC, with its reservation. One that is not there is a success; one that a running container has is
    /// refused, unless `force` is given.
    ///
    /// # Errors
    /// The disk's or kernel's.
    pub fn delete_vnic(&self, id: &VnicId, force: bool) -> Result<Deletion> {
        let Some(vnic) = self.store.read(|tx| tx.vnic(id))? else {
            return Ok(Deletion::Gone(DeletionReply::default()));
        };
        if !force && self.wiring.kernel.place(&wiring::veth(&vnic))? == Place::Container {
            let sentence = format!("VNIC {id} is in use by a running container: stop it first, or force the deletion");
            return Ok(Deletion::InUse(sentence));
        }
        self.remove(&vnic)?;
        let network = self.store.read(|tx| {
            let Some(network) = network_of(tx, &vnic)? else { return Ok(None) };
            let vnics = tx.vnics_on_bridge(network.namespace.as_deref(), &network.bridge)?;
            let launchers = vnics.iter().any(|other| other.owner == Owner::Launcher && same_subnet(other, &vnic));
            let remove = !launchers && tx.endpoints_of_network(&network.id)?.is_empty();
            Ok(Some(RemovableNetwork { id: network.id.into(), remove }))
        })?;
        Ok(Deletion::Gone(DeletionReply { deleted: true, network }))
    }

    /// Takes a VNIC's record, its endpoint's, its links, and a bridge that nothing uses any more, away.
    fn remove(&self, vnic: &Vnic) -> Result<()> {
        let id = vnic.id.clone();
        let gone = self.store.write(move |tx| {
            let gone = match tx.endpoint_of_vnic(&id)? {
                Some(endpoint) => {
                    log::info!("endpoint {} goes with its VNIC {id}", endpoint.id.short());
                    endpoint::forget(tx, &endpoint)?
                }
                None => endpoint::Gone::default(),
            };
            tx.set_vnic_going(&id)?;
            Ok(gone)
        })?;
        self.close_ports(&gone.ports)?;
        let _lock = self.wiring.lock(vnic.namespace.as_deref());
        self.wiring.delete_now(vnic.id.clone())?;
        match vnic.namespace.as_deref() {
            Some(namespace) => self.wiring.tidy_bridge(namespace, &vnic.bridge).map(drop),
            None => Ok(()),
        }
    }
}

fn same_subnet(one: &Vnic, other: &Vnic) -> bool {
    one.v4.map(|(subnet, _)| subnet) == other.v4.map(|(subnet, _)| subnet) && one.tenant == other.tenant
}

fn plan(tx: &Tx<'_>, request: &VnicRequest, on_host: bool) -> Result<Plan> {
    let (tenant, subnet) = (&request.tenant, request.subnet);
    if let Some(vnic) = tx.vnic_at(tenant, subnet, request.address)? {
        return Ok(same_or_taken(request, vnic));
    }
    let vnic = draft(tx, request, on_host)?;
    let with_mac = tx.vnics_with_mac(vnic.namespace.as_deref(), &vnic.bridge, vnic.mac)?;
    if let Some(other) = with_mac.first() {
        return Ok(Plan::Taken(format!(
            "MAC address {} is {}'s on bridge {}: give another one",
            vnic.mac,
            holder(other),
            vnic.bridge
        )));
    }
    for (subnet, address) in [vnic.v4, vnic.v6].into_iter().flatten() {
        if let Some(other) = tx.vnic_at(tenant, subnet, address)? {
            return Ok(Plan::Taken(format!("address {address} is {}'s: give another one", holder(&other))));
        }
        if let Some(sentence) = leased(tx, tenant, subnet, address)? {
            return Ok(Plan::Taken(sentence));
        }
    }
    tx.insert_vnic(&vnic)?;
    Ok(Plan::New(Box::new(vnic)))
}

fn holder(vnic: &Vnic) -> String {
    vnic.instance.as_ref().map_or_else(|| format!("VNIC {}", vnic.id), |instance| format!("instance {instance}"))
}

/// A VNIC with the address asked for: the same one, or another instance's.
fn same_or_taken(request: &VnicRequest, vnic: Vnic) -> Plan {
    let address = request.address;
    if vnic.instance.as_ref() != Some(&request.instance) {
        return Plan::Taken(format!("address {address} is {}'s: give another one", holder(&vnic)));
    }
    let v6 = request.subnet6.zip(request.address6);
    let bridge = request.bridge.as_ref().is_none_or(|bridge| *bridge == vnic.bridge);
    let same = vnic.mac == request.mac
        && vnic.v6 == v6
        && vnic.mtu == request.mtu
        && vnic.gateway == request.gateway
        && vnic.allowed == request.allowed_addresses
        && vnic.rate == request.rate
        && bridge;
    if same {
        Plan::Same(Box::new(vnic))
    } else {
        Plan::Taken(format!(
            "instance {} has VNIC {} with address {address} and another MAC address ({}), MTU, gateway, bridge, rate, or further address: delete it first",
            request.instance, vnic.id, vnic.mac
        ))
    }
}

/// Who holds the address as a lease that is no reservation's, in a sentence.
fn leased(tx: &Tx<'_>, tenant: &TenantId, subnet: Subnet, address: IpAddr) -> Result<Option<String>> {
    let Some(set) = tx.pool_set_of(Scope::Local, tenant, subnet)? else { return Ok(None) };
    let held: Option<Held> = tx.address(&set, address)?.filter(|held| held.held > 0);
    Ok(held.map(|held| {
        let whose = match held.kind {
            ciao_common::store::AddressKind::Gateway => "the gateway's",
            _ => "a container's",
        };
        format!("address {address} of subnet {subnet} is {whose}: see \"ciao-ipam lease list --tenant {tenant}\"")
    }))
}

fn draft(tx: &Tx<'_>, request: &VnicRequest, on_host: bool) -> Result<Vnic> {
    let (tenant, subnet) = (&request.tenant, request.subnet);
    let ours = names::tenant_namespace(tenant);
    let place = existing_place(tx, tenant, subnet)?;
    if let (Some((_, bridge)), Some(asked)) = (&place, &request.bridge) {
        ensure!(
            bridge == asked,
            "subnet {subnet} of tenant {tenant} is on bridge {bridge}, not on {asked}: leave the bridge away, or give that one"
        );
    }
    let (namespace, bridge) = match (place, &request.bridge) {
        (Some(place), _) => place,
        (None, Some(bridge)) => ((!on_host || tx.is_bridge_used(&ours, bridge)?).then_some(ours), bridge.clone()),
        (None, None) => (Some(ours), names::subnet_bridge(tenant, subnet)?),
    };
    let id = VnicId::random();
    let (container_link, host_link) = names::links(&id)?;
    Ok(Vnic {
        id,
        owner: Owner::Launcher,
        tenant: Some(tenant.clone()),
        network: None,
        instance: Some(request.instance.clone()),
        v4: Some((subnet, request.address)),
        v6: request.subnet6.zip(request.address6),
        mac: request.mac,
        gateway: request.gateway,
        mtu: request.mtu,
        namespace,
        bridge,
        allowed: request.allowed_addresses.clone(),
        rate: request.rate,
        network_name: request.network.clone(),
        container_link,
        host_link,
    })
}

/// Where the subnet's other VNICs, or its network, are.
fn existing_place(tx: &Tx<'_>, tenant: &TenantId, subnet: Subnet) -> Result<Option<(Option<String>, LinkName)>> {
    for network in tx.networks_of_tenant(tenant)? {
        if network.subnets.iter().any(|other| other.subnet == subnet) {
            return Ok(Some((network.namespace, network.bridge)));
        }
    }
    Ok(tx.vnic_in_subnet(tenant, subnet)?.map(|vnic| (vnic.namespace, vnic.bridge)))
}

/// The network that a VNIC's container runs on.
fn network_of(tx: &Tx<'_>, vnic: &Vnic) -> Result<Option<Network>> {
    let networks = tx.networks_on_bridge(vnic.namespace.as_deref(), &vnic.bridge)?;
    let subnet = vnic.v4.or(vnic.v6).map(|(subnet, _)| subnet);
    Ok(networks.into_iter().find(|network| {
        network.tenant == vnic.tenant && network.subnets.iter().any(|other| Some(other.subnet) == subnet)
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
        endpoint: endpoint.map(|endpoint| endpoint.id.into()),
        network,
    })
}

/// The Docker network of a launcher's VNIC: what there is, or what to make.
fn docker_network(tx: &Tx<'_>, vnic: &Vnic) -> Result<Option<DockerNetwork>> {
    let (Some(tenant), Some((subnet, _)), Owner::Launcher) = (&vnic.tenant, vnic.v4, vnic.owner) else {
        return Ok(None);
    };
    let name = vnic.network_name.clone().unwrap_or_else(|| names::docker_network(tenant, subnet));
    let id = network_of(tx, vnic)?.map(|network| String::from(network.id));
    let mut options = json!({ "tenant": tenant, "bridge": vnic.bridge });
    if let Some(mtu) = vnic.mtu {
        options[ciao_common::api::network::MTU] = json!(mtu.to_string());
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
