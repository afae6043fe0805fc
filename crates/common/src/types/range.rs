// SPDX-License-Identifier: Apache-2.0
//! Arithmetic on address ranges, for IPv4 and IPv6 alike.

/// A non-empty range of addresses, both ends included. IPv4 addresses are numbers below 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// Lowest address.
    pub first: u128,
    /// Highest address.
    pub last: u128,
}

impl AddressRange {
    /// From `first` to `last`; `None` if that is empty.
    pub fn new(first: u128, last: u128) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// Whether `address` is in the range.
    pub fn contains(self, address: u128) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The addresses in both.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// Number of addresses; `u128::MAX` for the 2^128 of `::/0`.
    pub fn count(self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// The parts below and above `address`.
    pub fn without(self, address: u128) -> (Option<Self>, Option<Self>) {
        let below = address.checked_sub(1).and_then(|end| Self::new(self.first, end));
        let above = address.checked_add(1).and_then(|start| Self::new(start, self.last));
        (below, above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_an_address_leaves_the_parts_below_and_above() {
        let range = AddressRange::new(5, 9).unwrap();
        assert_eq!(range.without(5), (None, AddressRange::new(6, 9)));
        assert_eq!(range.without(9), (AddressRange::new(5, 8), None));
        assert_eq!(range.without(7), (AddressRange::new(5, 6), AddressRange::new(8, 9)));
        assert_eq!(AddressRange::new(7, 7).unwrap().without(7), (None, None));
    }

    #[test]
    fn the_ends_of_the_number_line_do_not_overflow() {
        let all = AddressRange::new(0, u128::MAX).unwrap();
        assert_eq!(all.count(), u128::MAX);
        assert_eq!(all.without(0).0, None);
        assert_eq!(all.without(u128::MAX).1, None);
    }
}
