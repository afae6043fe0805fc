// SPDX-License-Identifier: Apache-2.0
//! The elements of a set, as the kernel lists them.
//!
//! A message of that list has hundreds of elements. netlink-packet-netfilter's own reader makes a text of all its bytes
//! for each of them, which takes minutes for some ten thousand, so these messages are read here.

use anyhow::{Context, Result};
use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NlaBuffer, NlasIterator, parse_u32_be};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{NfTablesMessage, SetElementList, SetElementMessage};

use super::elements::{Content, family, inner};
use crate::kernel::element::Table;
use crate::kernel::linux::netlink::Netlink;

/// Of linux/netfilter/nfnetlink.h and nf_tables.h.
const SIZE_OF_NFGENMSG: usize = 4;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
const NFTA_DATA_VALUE: u16 = 1;

/// The elements of a set in one of ciao's tables, in the namespace of the socket.
pub(super) fn dump(socket: &mut Netlink<NetfilterMessage>, table: Table, set: &str) -> Result<Vec<Content>> {
    let attributes = vec![SetElementList::Table(table.names()[1].to_owned()), SetElementList::Set(set.to_owned())];
    let question = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
    let question = inner(family(table), 0, question.into());
    socket.dump_as(question, |Elements(found)| found).with_context(|| format!("list set {set}"))
}

/// One message. The ends of ranges are left out, and so is what a set begins with that has no range there.
struct Elements(Vec<Content>);

impl NetlinkDeserializable for Elements {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let mut found = Vec::new();
        for list in NlasIterator::new(payload.get(SIZE_OF_NFGENMSG..).unwrap_or_default()) {
            let list = list?;
            if list.kind() == NFTA_SET_ELEM_LIST_ELEMENTS {
                for element in NlasIterator::new(list.value()) {
                    found.extend(content(element?.value())?);
                }
            }
        }
        Ok(Self(found))
    }
}

/// An element; `None`: it is the end of a range.
fn content(element: &[u8]) -> Result<Option<Content>, DecodeError> {
    let (mut key, mut value, mut is_end) = (Vec::new(), Vec::new(), false);
    for part in NlasIterator::new(element) {
        let part = part?;
        match part.kind() {
            NFTA_SET_ELEM_KEY => key = data(part.value())?,
            NFTA_SET_ELEM_DATA => value = data(part.value())?,
            NFTA_SET_ELEM_FLAGS => is_end = parse_u32_be(part.value())? & NFT_SET_ELEM_INTERVAL_END != 0,
            _ => {}
        }
    }
    Ok((!is_end).then_some((key, value)))
}

/// A key or value; empty: it is a verdict.
fn data(part: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let data = NlaBuffer::new_checked(part)?;
    Ok(if data.kind() == NFTA_DATA_VALUE { data.value().to_vec() } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use netlink_packet_netfilter::NetfilterProtoFamily;
    use netlink_packet_netfilter::nftables::{DataAttribute, ListAttribute, SetElementAttribute, SetElementFlags};

    use super::*;

    fn element(key: &[u8], more: &[SetElementAttribute]) -> ListAttribute<SetElementAttribute> {
        let key = SetElementAttribute::Key(DataAttribute::Value(key.to_vec()));
        // Of a counter or a comment, which nobody asked for.
        let other = SetElementAttribute::UserData(vec![0; 7]);
        ListAttribute::Element([&[key, other][..], more].concat())
    }

    /// The kernel's message about these elements.
    fn message(elements: Vec<ListAttribute<SetElementAttribute>>) -> Vec<u8> {
        let attributes = vec![
            SetElementList::Table("ciao".into()),
            SetElementList::Set("s".into()),
            SetElementList::Elements(elements),
        ];
        let listed = NfTablesMessage::NewSetElement(SetElementMessage { attributes });
        let listed = inner(NetfilterProtoFamily::Inet, 0, listed.into());
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(listed));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Vec<Content> {
        let message = NetlinkMessage::<Elements>::deserialize(bytes).unwrap();
        let NetlinkPayload::InnerMessage(Elements(found)) = message.payload else { panic!() };
        found
    }

    #[test]
    fn keys_and_values_are_read_and_ends_of_ranges_left_out() {
        let value = SetElementAttribute::Data(DataAttribute::Value(vec![8, 9]));
        let verdict = SetElementAttribute::Data(DataAttribute::Verdict(Vec::new()));
        let flags = SetElementAttribute::Flags;
        let bytes = message(vec![
            element(&[1, 2, 3], &[]),
            element(&[4], &[value, flags(SetElementFlags::empty())]),
            element(&[5], &[flags(SetElementFlags::IntervalEnd)]),
            element(&[6], &[verdict]),
        ]);
        assert_eq!(read(&bytes), [(vec![1, 2, 3], vec![]), (vec![4], vec![8, 9]), (vec![6], vec![])]);
        assert_eq!(read(&message(Vec::new())), []);
    }

    #[test]
    fn a_message_that_is_cut_off_is_an_error() {
        let whole = message(vec![element(&[1, 2, 3, 4], &[])]);
        let payload = &whole[16..];
        assert!(Elements::deserialize(&NetlinkHeader::default(), payload).is_ok());
        for length in [payload.len() - 1, payload.len() - 9, SIZE_OF_NFGENMSG + 3] {
            assert!(Elements::deserialize(&NetlinkHeader::default(), &payload[..length]).is_err(), "{length}");
        }
    }
}
