// SPDX-License-Identifier: Apache-2.0
//! Netlink's datagrams, for messages that the crate of messages does not read.

/// `sizeof(struct nlmsghdr)`.
pub(super) const HEADER: usize = 16;

/// The messages of a datagram: their kinds, and what follows their headers.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let length = u32::from_ne_bytes(header[..4].try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(header[4..6].try_into().ok()?);
        let body = rest.get(HEADER..length).unwrap_or_default();
        let next = length.max(HEADER).next_multiple_of(4).min(rest.len());
        rest = &rest[next..];
        Some((kind, body))
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
