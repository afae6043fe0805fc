// SPDX-License-Identifier: Apache-2.0
//! Netlink's datagrams, cut into messages; and the bodies of those that the crate of messages does not read.

/// `sizeof(struct nlmsghdr)`.
pub(super) const HEADER: usize = 16;

/// Each message of a datagram is padded to so many bytes.
pub(super) const ALIGNMENT: usize = 4;

/// The messages of a datagram, with their headers. A length of less than a header's counts as that; what is too short
/// for a header is the last message.
pub(super) fn split(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = length_of(rest).unwrap_or(rest.len()).max(HEADER);
        let message = &rest[..length.min(rest.len())];
        rest = &rest[length.next_multiple_of(ALIGNMENT).min(rest.len())..];
        Some(message)
    })
}

/// The length that a header names; `None`: there is no header.
fn length_of(message: &[u8]) -> Option<usize> {
    Some(u32::from_ne_bytes(message.get(..HEADER)?[..4].try_into().ok()?) as usize)
}

/// The messages of a datagram: their kinds, and what follows their headers.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    split(datagram).filter_map(|message| {
        let length = length_of(message)?;
        let kind = u16::from_ne_bytes(message[4..6].try_into().ok()?);
        Some((kind, message.get(HEADER..length).unwrap_or_default()))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::kernel::linux) fn message(kind: u16, length: u32) -> Vec<u8> {
        let mut bytes = vec![0; (length as usize).max(HEADER).next_multiple_of(4)];
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes
    }

    #[test]
    fn every_message_of_a_datagram_is_read_and_a_broken_one_ends_it() {
        let datagram = [message(16, 18), message(0x0a0f, 20)].concat();
        let kinds = |datagram: &[u8]| messages(datagram).map(|(kind, _)| kind).collect::<Vec<_>>();
        assert_eq!(kinds(&datagram), [16, 0x0a0f]);
        assert_eq!(kinds(&message(25, 0)), [25], "no length is no endless loop");
        assert_eq!(kinds(&[0; 7]), [0; 0]);
    }
}
