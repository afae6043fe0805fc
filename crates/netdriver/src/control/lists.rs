// SPDX-License-Identifier: Apache-2.0
//! What a controller sends and gets: the hosts of the cluster, and the host of each address of a tenant.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ciao_common::store::{ClusterHost, ListState, Remote, TenantSubnet};
use ciao_common::types::{Address, HostId, MacAddr, Mtu, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The controller's fencing token: the epoch of the controller in the higher 32 bits, a count in the lower.
#[derive(ToSchema)]
#[schema(value_type = u64, minimum = 0, maximum = 9_223_372_036_854_775_807_i64, example = 4_294_967_297_i64)]
pub(super) struct Generation(#[expect(dead_code, reason = "a schema")] u64);

/// The sum modulo 2^64 of the FNV-1a hashes (64 bits) of the rows, each as text with blanks between its parts:
/// `ADDRESS MAC HOST` of a remote, `SUBNET VNI GATEWAY MTU` of a subnet (MTU 0: not given),
/// `cnci N HOST` of the N-th host of `cnci`, from 0 on, `ID ADDRESS MTU` of a host.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-f]{16}$", example = "00000000deadbeef")]
pub(super) struct Digest(#[expect(dead_code, reason = "a schema")] String);

/// The schema of a [`Remote`].
pub(super) struct RemoteRow;

impl PartialSchema for RemoteRow {
    fn schema() -> RefOr<Schema> {
        let inline = |schema| match schema {
            RefOr::T(schema) => Some(schema),
            RefOr::Ref(_) => None,
        };
        let parts = [Address::schema(), MacAddr::schema(), HostId::schema()].into_iter().filter_map(inline);
        ArrayBuilder::new()
            .description(Some("Address, MAC address, host."))
            .prefix_items(parts.collect::<Vec<_>>())
            .items(ObjectBuilder::new().schema_type(Type::String))
            .min_items(Some(3))
            .max_items(Some(3))
            .examples([serde_json::json!(["10.1.0.12", "02:01:0a:00:00:02", "h2"])])
            .into()
    }
}

impl ToSchema for RemoteRow {
    fn name() -> std::borrow::Cow<'static, str> {
        "Remote".into()
    }
}

/// The whole list of hosts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HostsRequest {
    #[schema(value_type = Generation)]
    pub(super) generation: u64,
    pub(super) hosts: Vec<GivenHost>,
}

/// A host of the cluster.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = HostRequest)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenHost {
    pub(super) id: HostId,
    /// Of its link to the other hosts.
    #[schema(value_type = Address)]
    pub(super) address: IpAddr,
    /// Of that link, in bytes; absent: 1500.
    pub(super) mtu: Option<Mtu>,
}

/// All remotes of a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RemotesRequest {
    #[schema(value_type = Generation)]
    pub(super) generation: u64,
    #[schema(value_type = Vec<RemoteRow>)]
    pub(super) remotes: Vec<Remote>,
    /// The tenant's subnets: a host that has some of them routes to the others.
    #[serde(default)]
    pub(super) networks: Vec<TenantSubnet>,
    /// The hosts by which the tenant's packets leave: the first one of the list of hosts; none: each by its own.
    #[serde(default)]
    pub(super) cnci: Vec<HostId>,
}

/// The remotes of a tenant that change. Its subnets stay.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RemotesChange)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeRequest {
    /// The generation that this changes.
    #[schema(value_type = Generation)]
    pub(super) base: u64,
    #[schema(value_type = Generation)]
    pub(super) generation: u64,
    /// Added, or in place of those of the same address.
    #[serde(default)]
    #[schema(value_type = Vec<RemoteRow>)]
    pub(super) set: Vec<Remote>,
    /// Addresses.
    #[serde(default)]
    #[schema(value_type = Vec<Address>)]
    pub(super) delete: Vec<IpAddr>,
}

/// The generation of the empty list.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RemotesDeletion)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteRequest {
    #[schema(value_type = Generation)]
    pub(super) generation: u64,
}

/// The list of hosts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hosts)]
pub(super) struct HostsReply {
    #[schema(value_type = Generation)]
    pub(super) generation: u64,
    #[schema(value_type = Digest)]
    pub(super) digest: String,
    /// Which of them this host is; null: none, so it has no tunnel.
    pub(super) own: Option<HostId>,
    pub(super) hosts: Vec<ClusterHost>,
    /// State of the exchange with each other host: `in step`, `behind`, or why it is unreachable; empty without
    /// `serve --exchange`.
    #[schema(value_type = BTreeMap<String, String>)]
    pub(super) exchange: BTreeMap<HostId, String>,
    /// Packets to tunnels that were dropped: from `strangers`, which are not in the list, `forged` ones with
    /// addresses that are not on the host that sent them, `forwarded` ones, and those `diverted` from the link of
    /// `serve --tunnel`.
    pub(super) dropped: BTreeMap<String, u64>,
}

/// The list of a tenant, without its rows.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantRemotes)]
pub(super) struct TenantReply {
    pub(super) tenant: TenantId,
    #[schema(value_type = Generation)]
    pub(super) generation: u64,
    #[schema(value_type = Digest)]
    pub(super) digest: String,
    /// The number of rows.
    pub(super) remotes: u32,
}

/// An address that another host announced, and that is rejected.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RefusedRemote {
    #[schema(value_type = Address)]
    pub(super) address: IpAddr,
    pub(super) mac: MacAddr,
    pub(super) host: HostId,
    /// The reason, as in the metrics: `own`, `gateway`, `network`, `superseded`, `mac`.
    pub(super) reason: &'static str,
    /// The same as a sentence.
    pub(super) meaning: &'static str,
}

/// The list of a tenant. With `serve --exchange`, what its hosts announced, with generation 0.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Remotes)]
pub(super) struct RemotesReply {
    #[schema(value_type = Generation)]
    pub(super) generation: u64,
    #[schema(value_type = Digest)]
    pub(super) digest: String,
    #[schema(value_type = Vec<RemoteRow>)]
    pub(super) remotes: Vec<Remote>,
    /// The tenant's subnets, as given.
    pub(super) networks: Vec<TenantSubnet>,
    /// The concentrators of the tenant, as given.
    pub(super) cnci: Vec<HostId>,
    pub(super) refused: Vec<RefusedRemote>,
}

/// What is recorded of a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListState)]
pub(super) struct StateReply {
    #[schema(value_type = Generation)]
    pub(super) generation: u64,
    #[schema(value_type = Digest)]
    pub(super) digest: String,
}

/// Why a list was refused, and what is recorded instead.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListConflict)]
pub(super) struct Conflict {
    /// What is wrong, and what to do.
    pub(super) error: String,
    #[schema(value_type = Generation)]
    pub(super) generation: u64,
    #[schema(value_type = Digest)]
    pub(super) digest: String,
}

/// The state of a list that was never given.
pub(super) fn none() -> ListState {
    ListState { generation: 0, digest: format!("{:016x}", 0) }
}
