// SPDX-License-Identifier: Apache-2.0
//! What the kernel replied to a request: its messages, and how they end.

use anyhow::{Context, Result};
use netlink_packet_core::{NLM_F_DUMP_INTR, NetlinkDeserializable, NetlinkMessage, NetlinkPayload};
use nix::errno::Errno;

use super::datagram::split;

/// How a reply ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    /// What was listed changed meanwhile: something may be listed twice, or not at all.
    Interrupted,
}

/// The messages of a datagram.
pub(super) fn messages<M: NetlinkDeserializable>(datagram: &[u8]) -> impl Iterator<Item = Result<NetlinkMessage<M>>> {
    split(datagram).map(|message| NetlinkMessage::deserialize(message).context("read the kernel's reply"))
}

/// Reads the messages of a datagram that belong to the request of that number. Returns the request's outcome if one of
/// them ends it.
pub(super) fn read<M: NetlinkDeserializable>(
    datagram: &[u8],
    sequence: u32,
    each: &mut impl FnMut(M),
    end: &mut End,
) -> Result<Option<std::result::Result<(), Errno>>> {
    for message in messages(datagram) {
        let message = message?;
        // What came too late for an earlier request is passed over.
        if message.header.sequence_number != sequence {
            continue;
        }
        if message.header.flags & NLM_F_DUMP_INTR != 0 {
            *end = End::Interrupted;
        }
        match message.payload {
            NetlinkPayload::InnerMessage(reply) => each(reply),
            NetlinkPayload::Error(error) => return Ok(Some(refusal(error.code))),
            NetlinkPayload::Done(_) => return Ok(Some(Ok(()))),
            _ => {}
        }
    }
    Ok(None)
}

/// An error message's code; without one it is an acknowledgement.
pub(super) fn refusal(code: Option<std::num::NonZeroI32>) -> std::result::Result<(), Errno> {
    code.map_or(Ok(()), |code| Err(Errno::from_raw(-code.get())))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DoneMessage, NetlinkHeader, NetlinkSerializable};
    use netlink_packet_netfilter::NetfilterMessage;
    use netlink_packet_route::RouteNetlinkMessage;

    use super::*;

    /// The end of a list.
    fn done<M: NetlinkSerializable>(sequence: u32, flags: u16) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (flags, sequence);
        let payload = NetlinkPayload::<M>::Done(DoneMessage::default());
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn is_an_interrupted_list_seen<M: NetlinkSerializable + NetlinkDeserializable>() {
        for (flags, expected) in [(0, End::Whole), (NLM_F_DUMP_INTR, End::Interrupted)] {
            let mut end = End::Whole;
            let mut each = |_: M| {};
            assert_eq!(read(&done::<M>(7, flags), 7, &mut each, &mut end).unwrap(), Some(Ok(())));
            assert!(end == expected);
            assert_eq!(read(&done::<M>(6, flags), 7, &mut each, &mut end).unwrap(), None, "an earlier request's");
        }
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_seen() {
        is_an_interrupted_list_seen::<RouteNetlinkMessage>();
        is_an_interrupted_list_seen::<NetfilterMessage>();
    }
}
