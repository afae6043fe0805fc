// SPDX-License-Identifier: Apache-2.0
//! What hosts send each other: a question with the sender's list, and the answer. Both come from another machine.

use std::collections::BTreeSet;

use anyhow::{Context, Error, Result, bail, ensure};
use ciao_common::store::{HostEndpoint, ListState, list_of_endpoints};
use ciao_common::types::HostId;
use serde::{Deserialize, Serialize};

/// Bytes of a message.
pub(super) const MESSAGE_LIMIT: usize = 4 << 20;
/// Addresses of a host.
pub const MOST_ENDPOINTS: usize = 10_000;
/// Generations from here on are nobody's: SQLite's integers are signed, and there must be a higher one.
pub(super) const GENERATION_LIMIT: u64 = 1 << 62;
/// The highest VNI.
const MOST_VNI: u32 = (1 << 24) - 1;

/// A host's list of its own addresses, or only its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// The state of the sender's list.
    pub own: ListState,
    /// What the sender has of the receiver's list; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yours: Option<ListState>,
    /// The sender's list; absent: it only asks what the receiver has of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<BTreeSet<HostEndpoint>>,
}

/// What the receiver has of the sender's list then, or why it does not accept the message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Has(Option<ListState>),
    Refused(String),
}

impl Message {
    /// Reads a message, and checks what can be checked without the records.
    ///
    /// # Errors
    /// It is not one, or has too much, or contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let message: Self = ciao_common::api::parse(bytes)?;
        let generation = message.own.generation;
        ensure!(generation < GENERATION_LIMIT, "generation {generation} is too high");
        [Some(&message.own), message.yours.as_ref()].into_iter().flatten().try_for_each(check_digest)?;
        let Some(endpoints) = &message.endpoints else { return Ok(message) };
        check_count(endpoints)?;
        let mut known = BTreeSet::new();
        for (tenant, address, mac, subnet, vni) in endpoints {
            ensure!(known.insert((tenant, address)), "address {address} of tenant {tenant} is listed twice");
            ensure!(subnet.contains(*address), "address {address} of tenant {tenant} is not in subnet {subnet}");
            ensure!((1..=MOST_VNI).contains(vni), "VNI {vni} of tenant {tenant} is not between 1 and {MOST_VNI}");
            ensure!(mac.octets() != [0; 6], "address {address} of tenant {tenant} has no MAC address");
        }
        let state = list_of_endpoints(generation, endpoints);
        ensure!(state == message.own, "the digest {} does not match the list", message.own.digest);
        Ok(message)
    }
}

fn check_digest(state: &ListState) -> Result<()> {
    let is_one = state.digest.len() == 16 && state.digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_one, "a digest does not have 16 hexadecimal digits");
    Ok(())
}

/// An error that quotes another host: short, and on one line.
pub(super) fn plain(error: &Error) -> String {
    let text = format!("{error:#}");
    text.chars().take(300).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Whether a host may have so many addresses.
pub(super) fn check_count(endpoints: &BTreeSet<HostEndpoint>) -> Result<()> {
    let count = endpoints.len();
    ensure!(count <= MOST_ENDPOINTS, "{count} addresses on one host: at most {MOST_ENDPOINTS} are accepted");
    Ok(())
}

/// What a host answers to a message with `own`: what it has of that list.
pub(super) fn read_answer(host: &HostId, bytes: &[u8]) -> Result<Option<ListState>> {
    match ciao_common::api::parse(bytes).with_context(|| format!("read the answer of {host}"))? {
        Answer::Has(state) => {
            state.iter().try_for_each(check_digest)?;
            Ok(state)
        }
        Answer::Refused(why) => bail!("it refuses this host's list: {why}"),
    }
}
