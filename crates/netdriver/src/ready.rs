// SPDX-License-Identifier: Apache-2.0
//! Endpoints that may join: `CreateEndpoint` prepares the reply to `Join`, which so needs neither records nor
//! netlink, and waits for nothing.
//!
//! The answer is kept if the link that it names is in the host's namespace with the VNIC's MAC address, and holds as
//! long as the endpoint does, and as that same link is there. Otherwise `Join` reads records and links.

use std::collections::HashMap;
use std::sync::Mutex;

use ciao_common::api::endpoint::{JoinReply, PORT_MAP, SandboxRequest};
use ciao_common::store::{Egress, Network, Vnic};
use ciao_common::sync::lock;
use ciao_common::types::{EndpointId, NetworkId};

use crate::kernel::Kernel;

/// The answers, by endpoint.
#[derive(Default)]
pub(crate) struct Ready(Mutex<HashMap<EndpointId, PreparedJoin>>);

struct PreparedJoin {
    network: NetworkId,
    /// The link's.
    index: u32,
    reply: JoinReply,
    /// The network leads nowhere.
    closed: bool,
}

impl Ready {
    /// Keeps an endpoint's answer, if its link is as it should be.
    pub(crate) fn keep(
        &self,
        kernel: &dyn Kernel,
        endpoint: &EndpointId,
        network: &Network,
        vnic: &Vnic,
        reply: JoinReply,
    ) {
        let Some((index, _)) = kernel.peek(&vnic.container_link).filter(|(_, mac)| *mac == vnic.mac) else { return };
        lock(&self.0).insert(
            endpoint.clone(),
            PreparedJoin { network: network.id.clone(), index, reply, closed: network.egress == Egress::None },
        );
    }

    /// The answer to a call, if it is known and still holds.
    pub(crate) fn answer(&self, kernel: &dyn Kernel, join: &SandboxRequest) -> Option<JoinReply> {
        let answers = lock(&self.0);
        let answer = answers.get(&join.endpoint_id).filter(|answer| answer.network == join.network_id)?;
        if answer.closed && join.options.value(PORT_MAP).is_some() {
            // `join` logs the ports that are not published.
            return None;
        }
        kernel.is_same_link(answer.index, &answer.reply.interface_name.src_name).then(|| answer.reply.clone())
    }

    /// Removes the answer of a deleted endpoint.
    pub(crate) fn forget(&self, endpoint: &EndpointId) {
        lock(&self.0).remove(endpoint);
    }
}
