//! Where a free pool of some size lies in a larger subnet: pure arithmetic, no store and no Docker.

use ciao_common::types::{AddressRange, Subnet};

/// The lowest subnet of prefix length `size` in `base` that shares no address with any of `taken`. One pass over
/// `taken`, which may overlap each other and lie outside of `base`.
#[must_use]
pub fn first_gap(base: Subnet, size: u8, taken: &[AddressRange]) -> Option<Subnet> {
    let host_bits = u32::from(base.family().bits() - size);
    let hosts = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |count| count - 1);
    let end = base.range().last;
    let mut taken = taken.to_vec();
    taken.sort_by_key(|range| range.first);
    let mut candidate = AddressRange { first: base.range().first, last: base.range().first | hosts };
    for range in taken {
        if range.first > candidate.last {
            break;
        }
        if range.last < candidate.first {
            continue;
        }
        // The next start that is a multiple of the size and above the range.
        let next = (range.last | hosts).checked_add(1).filter(|next| *next <= end)?;
        candidate = AddressRange { first: next, last: next | hosts };
    }
    Subnet::new(base.family().address(candidate.first), size).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(base: &str, size: u8, taken: &[&str]) -> Option<String> {
        let taken: Vec<_> = taken.iter().map(|text| text.parse::<Subnet>().unwrap().range()).collect();
        first_gap(base.parse().unwrap(), size, &taken).map(|subnet| subnet.to_string())
    }

    #[test]
    fn the_lowest_gap_is_found_whatever_lies_around() {
        assert_eq!(gap("10.0.0.0/8", 16, &[]).as_deref(), Some("10.0.0.0/16"));
        assert_eq!(gap("10.0.0.0/8", 16, &["10.0.7.0/24"]).as_deref(), Some("10.1.0.0/16"));
        assert_eq!(
            gap("10.0.0.0/8", 16, &["10.1.0.0/16", "10.0.0.0/16", "10.0.3.0/24"]).as_deref(),
            Some("10.2.0.0/16")
        );
        assert_eq!(gap("10.0.0.0/8", 16, &["0.0.0.0/0"]), None);
        assert_eq!(gap("10.0.0.0/23", 24, &["10.0.0.0/24", "10.0.1.128/32"]), None);
        assert_eq!(gap("10.0.0.0/23", 24, &["9.0.0.0/24", "11.0.0.0/8"]).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(gap("ffff::/16", 17, &["ffff::/17", "ffff:8000::/17"]), None);
        assert_eq!(gap("fd00::/48", 64, &["fd00::/64"]).as_deref(), Some("fd00:0:0:1::/64"));
    }
}
