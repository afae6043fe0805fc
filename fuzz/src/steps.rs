// SPDX-License-Identifier: Apache-2.0
//! [`Step`]: what may happen on a host, in any order.

use arbitrary::Arbitrary;
use ciao_netdriver::reconcile::Depth;
use serde_json::json;

use crate::daemons::Socket;
use crate::host::Host;
use crate::names::{Bridge, Endpoint, Instance, Network, Number, Pool, Subnet, Tenant, Vnic};
use crate::requests::{AddressRequest, EndpointRequest, NetworkRequest, PoolRequest, Port, VnicRequest, names};
use crate::scenes::{ipam, look, net};

/// One thing that happens.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Step {
    RequestPool(PoolRequest),
    ReleasePool(Pool),
    RequestAddress(AddressRequest),
    ReleaseAddress(Pool, Subnet, Number),
    /// `docker network create` on a pool of ciao-ipam's.
    MakeNetwork(PoolRequest, AddressRequest, NetworkRequest),
    CreateNetwork(NetworkRequest),
    AllocateNetwork(NetworkRequest),
    DeleteNetwork(Network),
    CreateEndpoint(EndpointRequest),
    /// `docker run`.
    Run(EndpointRequest),
    Join(Network, Endpoint),
    Leave(Network, Endpoint),
    DeleteEndpoint(Network, Endpoint),
    EndpointOperInfo(Network, Endpoint),
    Publish(Network, Endpoint, [Option<Port>; 3]),
    Unpublish(Network, Endpoint),
    Discover {
        new: bool,
        subnet: Subnet,
        number: Number,
    },
    CreateVnic(VnicRequest),
    DeleteVnic(Vnic, bool),
    ShowVnic(Vnic),
    ListVnics(Option<Tenant>, Option<Instance>),
    ShowNetwork(Network),
    ForgetNetworks {
        dry: bool,
        kept: Network,
    },
    Reconcile {
        whole: bool,
    },
    Restart,
    Reboot,
    KillContainers,
    /// Somebody makes or removes a bridge on the host.
    HostBridge {
        bridge: Bridge,
        there: bool,
    },
    /// The kernel fails in the next call, after so many changes.
    Fail(u8),
}

impl Step {
    pub(crate) fn take(self, host: &mut Host) {
        match self {
            Self::RequestPool(request) => ipam(host, "RequestPool", &request.body()),
            Self::ReleasePool(pool) => ipam(host, "ReleasePool", &json!({ "PoolID": pool.id(host) })),
            Self::RequestAddress(request) => ipam(host, "RequestAddress", &request.body(host)),
            Self::ReleaseAddress(pool, subnet, number) => {
                let body = json!({ "PoolID": pool.id(host), "Address": subnet.address(number) });
                ipam(host, "ReleaseAddress", &body);
            }
            Self::MakeNetwork(pool, gateway, network) => {
                ipam(host, "RequestPool", &pool.body());
                ipam(host, "RequestAddress", &gateway.body(host));
                net(host, "CreateNetwork", &network.body());
            }
            Self::CreateNetwork(request) => net(host, "CreateNetwork", &request.body()),
            Self::AllocateNetwork(request) => net(host, "AllocateNetwork", &request.body()),
            Self::DeleteNetwork(network) => net(host, "DeleteNetwork", &json!({ "NetworkID": network.id() })),
            Self::CreateEndpoint(request) => net(host, "CreateEndpoint", &request.body(host)),
            Self::Run(request) => {
                net(host, "CreateEndpoint", &request.body(host));
                net(host, "Join", &names(request.network, request.endpoint));
            }
            Self::Join(network, endpoint) => net(host, "Join", &names(network, endpoint)),
            Self::Leave(network, endpoint) => net(host, "Leave", &names(network, endpoint)),
            Self::DeleteEndpoint(network, endpoint) => net(host, "DeleteEndpoint", &names(network, endpoint)),
            Self::EndpointOperInfo(network, endpoint) => net(host, "EndpointOperInfo", &names(network, endpoint)),
            Self::Publish(network, endpoint, ports) => {
                let bindings: Vec<_> = ports.into_iter().flatten().map(Port::binding).collect();
                let mut body = names(network, endpoint);
                body["Options"] = json!({ "com.docker.network.portmap": bindings });
                net(host, "ProgramExternalConnectivity", &body);
            }
            Self::Unpublish(network, endpoint) => net(host, "RevokeExternalConnectivity", &names(network, endpoint)),
            Self::Discover { new, subnet, number } => {
                let method = if new { "DiscoverNew" } else { "DiscoverDelete" };
                let node = json!({ "Address": subnet.address(number), "BindAddress": "", "Self": false });
                net(host, method, &json!({ "DiscoveryType": 1, "DiscoveryData": node }));
            }
            other => other.take_beside(host),
        }
    }

    /// What the engine does not ask for.
    fn take_beside(self, host: &mut Host) {
        match self {
            Self::CreateVnic(request) => {
                let (_, reply) = host.call(Socket::Control, "POST", "/v1/vnics", request.body().to_string().as_bytes());
                host.vnics.extend(reply["id"].as_str().map(str::to_owned));
            }
            Self::DeleteVnic(vnic, force) => {
                let target = format!("/v1/vnics/{}?force={force}", vnic.id(host));
                host.call(Socket::Control, "DELETE", &target, b"");
            }
            Self::ShowVnic(vnic) => look(host, &format!("/v1/vnics/{}", vnic.id(host))),
            Self::ListVnics(tenant, instance) => {
                let tenant = tenant.map(|tenant| format!("tenant={}", tenant.text()));
                let instance = instance.map(|instance| format!("instance={}", instance.text()));
                let query: Vec<_> = [tenant, instance].into_iter().flatten().collect();
                look(host, &format!("/v1/vnics?{}", query.join("&")));
            }
            Self::ShowNetwork(network) => look(host, &format!("/v1/networks/{}", network.id())),
            Self::ForgetNetworks { dry, kept } => {
                let body = json!({ "networks": [kept.id()] }).to_string();
                // All is young yet, so nothing is forgotten; what was disturbed is repaired.
                host.call(Socket::Control, "POST", &format!("/v1/reconcile?dry_run={dry}"), body.as_bytes());
            }
            Self::Reconcile { whole } => host.reconcile(if whole { Depth::Full } else { Depth::Changed }),
            Self::Restart => host.restart(),
            Self::Reboot => host.reboot(),
            Self::KillContainers => host.kill_containers(),
            Self::HostBridge { bridge, there } => host.set_host_bridge(bridge.text(), there),
            Self::Fail(changes) => host.fail_after(usize::from(changes % 8)),
            _ => unreachable!("taken above"),
        }
    }
}
