// SPDX-License-Identifier: Apache-2.0
//! A VNIC's rate towards its container: a token bucket filter (`tc-tbf(8)`) on the end that is on the bridge.

use ciao_common::types::Rate;
use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

/// Attributes of linux/pkt_sched.h.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// Sizes count as Ethernet's, so that the kernel needs no table of them.
const TC_LINKLAYER_ETHERNET: u8 = 1;

/// The filter as a link's root queue.
pub(super) fn new_filter(index: u32, rate: Rate) -> RouteNetlinkMessage {
    let mut message = TcMessage::with_index(i32::try_from(index).unwrap_or(i32::MAX));
    message.header.parent = TcHandle::ROOT;
    let option = |kind, bytes: &[u8]| TcOption::Other(DefaultNla::new(kind, bytes.to_vec()));
    message.attributes.push(TcAttribute::Kind("tbf".into()));
    message.attributes.push(TcAttribute::Options(vec![
        option(TCA_TBF_PARMS, &parameters(rate)),
        option(TCA_TBF_RATE64, &rate.bytes().to_ne_bytes()),
        option(TCA_TBF_BURST, &rate.burst().to_ne_bytes()),
    ]));
    RouteNetlinkMessage::NewQueueDiscipline(message)
}

/// The removal of a link's root queue, which the kernel's default then is.
pub(super) fn no_filter(index: u32) -> RouteNetlinkMessage {
    let mut message = TcMessage::with_index(i32::try_from(index).unwrap_or(i32::MAX));
    message.header.parent = TcHandle::ROOT;
    RouteNetlinkMessage::DelQueueDiscipline(message)
}

/// `struct tc_tbf_qopt`: rate and peak rate (`struct tc_ratespec` each), bytes that wait at most (50 ms), bucket, MTU.
fn parameters(rate: Rate) -> Vec<u8> {
    let low = u32::try_from(rate.bytes()).unwrap_or(u32::MAX);
    let waiting = u32::try_from(rate.bytes() / 20).unwrap_or(u32::MAX).saturating_add(rate.burst());
    let mut bytes = Vec::with_capacity(36);
    bytes.extend([0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0]);
    bytes.extend(low.to_ne_bytes());
    bytes.extend([0; 12]);
    for number in [waiting, 0, 0] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes
}
