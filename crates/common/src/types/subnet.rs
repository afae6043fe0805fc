// SPDX-License-Identifier: Apache-2.0
//! Subnets: a network address and a prefix length, without host bits.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context, Error, bail, ensure};
use ipnetwork::IpNetwork;
use serde_with::{DeserializeFromStr, SerializeDisplay};

use super::address::{Family, number};
use super::range::AddressRange;
use super::schema::{cidr, described};

/// A subnet whose host bits are zero: `10.5.0.0/16`, never `10.5.0.1/16`. Parsing masks them, as the engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, SerializeDisplay, DeserializeFromStr)]
pub struct Subnet(IpNetwork);

described!(Subnet, cidr(), 43, "A subnet in CIDR notation. Host bits are masked off.", "192.168.111.0/24");

impl Subnet {
    /// The subnet of `address/prefix`.
    pub fn masking(cidr: IpNetwork) -> Self {
        let masked = IpNetwork::new(cidr.network(), cidr.prefix());
        Self(masked.expect("the prefix was valid before"))
    }

    /// From its lowest address and a prefix length; host bits are masked off.
    ///
    /// # Errors
    /// The prefix is longer than an address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, Error> {
        let cidr = IpNetwork::new(address, prefix)
            .with_context(|| format!("/{prefix} is not a valid prefix length for {address}"))?;
        Ok(Self::masking(cidr))
    }

    /// The lowest address.
    pub fn network(self) -> IpAddr {
        self.0.ip()
    }

    /// The prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.0.prefix()
    }

    /// IPv4 or IPv6.
    pub fn family(self) -> Family {
        Family::of(self.network())
    }

    /// All addresses.
    pub fn range(self) -> AddressRange {
        let first = number(self.network());
        let host_bits = self.family().bits() - self.prefix();
        let hosts = 1_u128.checked_shl(u32::from(host_bits)).map_or(u128::MAX, |size| size - 1);
        AddressRange { first, last: first | hosts }
    }

    /// The addresses for dynamic allocation: without network and broadcast address (IPv4) or the subnet-router anycast
    /// address (IPv6; RFC 4291, 2.6.1). All addresses of a point-to-point subnet (`/31` RFC 3021, `/127` RFC 6164) and
    /// a single address are usable.
    pub fn usable(self) -> AddressRange {
        let AddressRange { first, last } = self.range();
        match (self.family(), self.family().bits() - self.prefix()) {
            (_, 0 | 1) => AddressRange { first, last },
            (Family::V4, _) => AddressRange { first: first + 1, last: last - 1 },
            (Family::V6, _) => AddressRange { first: first + 1, last },
        }
    }

    /// Checks that the subnet can be used for containers, with `gateway` as their default gateway.
    ///
    /// # Errors
    /// A loopback, multicast or unspecified subnet; a gateway outside of it, or its network or broadcast address.
    pub fn check_for_hosts(self, gateway: Option<IpAddr>) -> Result<(), Error> {
        let first = self.network();
        ensure!(
            !first.is_loopback() && !first.is_multicast() && !first.is_unspecified(),
            "subnet {self} cannot be used for containers (loopback, multicast or unspecified): give another one"
        );
        let Some(gateway) = gateway else { return Ok(()) };
        ensure!(self.contains(gateway), "gateway {gateway} is outside of subnet {self}: give one inside");
        ensure!(
            self.usable().contains(number(gateway)),
            "gateway {gateway} of subnet {self} is the network or broadcast address: give another one"
        );
        Ok(())
    }

    /// The first usable address: the default choice of a gateway.
    pub fn first_usable(self) -> IpAddr {
        self.family().address(self.usable().first)
    }

    /// Whether the address is in the subnet.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// Whether all of `inner` is in the subnet.
    pub fn covers(self, inner: Self) -> bool {
        self.family() == inner.family() && self.prefix() <= inner.prefix() && self.contains(inner.network())
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// `address` with this subnet's prefix, the format of replies to the engine.
    pub fn cidr(self, address: IpAddr) -> String {
        format!("{address}/{}", self.prefix())
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(Self::masking(parse_cidr(text)?))
    }
}

/// Parses `address/prefix`. Unlike [`IpNetwork`]'s own parser it accepts neither a bare address nor a netmask: Docker
/// uses addresses and CIDRs in different fields.
pub(crate) fn parse_cidr(text: &str) -> Result<IpNetwork, Error> {
    let Some((address, prefix)) = text.split_once('/') else {
        bail!("{text:?} is not a CIDR: give an address and a prefix, such as 10.5.0.0/16");
    };
    let prefix_is_number = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    ensure!(prefix_is_number, "{text:?} is not a CIDR: its prefix must be a number of bits, such as /16");
    let address: IpAddr =
        address.parse().with_context(|| format!("{text:?} is not a CIDR: {address:?} is not an IP address"))?;
    let prefix: u8 = prefix.parse().unwrap_or(u8::MAX);
    IpNetwork::new(address, prefix)
        .with_context(|| format!("{text:?} is not a CIDR: the prefix is longer than the address"))
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_masked() {
        assert_eq!(subnet("10.5.3.7/16").to_string(), "10.5.0.0/16");
        assert_eq!(subnet("fd00:5::99/64").to_string(), "fd00:5::/64");
    }

    #[test]
    fn an_invalid_cidr_is_refused_with_its_text() {
        for wrong in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0/8",
            "x/8",
            "::/129",
            "10.0.0.0/255.0.0.0",
            "1.2.3.4/+8",
        ] {
            let error = wrong.parse::<Subnet>().unwrap_err();
            assert!(format!("{error:#}").contains(&format!("{wrong:?}")), "{error:#}");
        }
    }

    #[test]
    fn usable_excludes_network_broadcast_and_anycast() {
        let ends = |text: &str| {
            let subnet = subnet(text);
            let usable = subnet.usable();
            let show = |n| subnet.family().address(n).to_string();
            format!("{}-{}", show(usable.first), show(usable.last))
        };
        assert_eq!(ends("10.0.0.0/24"), "10.0.0.1-10.0.0.254");
        assert_eq!(ends("10.0.0.0/30"), "10.0.0.1-10.0.0.2");
        assert_eq!(ends("10.0.0.0/31"), "10.0.0.0-10.0.0.1");
        assert_eq!(ends("10.0.0.7/32"), "10.0.0.7-10.0.0.7");
        assert_eq!(ends("fd00::/126"), "fd00::1-fd00::3");
        assert_eq!(ends("fd00::/127"), "fd00::-fd00::1");
        assert_eq!(ends("::/0").split('-').next(), Some("::1"));
        assert_eq!(ends("0.0.0.0/0"), "0.0.0.1-255.255.255.254");
    }

    #[test]
    fn subnets_overlap_if_one_covers_the_other() {
        assert!(subnet("10.0.0.0/8").overlaps(subnet("10.5.0.0/16")));
        assert!(!subnet("10.5.0.0/16").overlaps(subnet("10.6.0.0/16")));
        assert!(!subnet("::/0").overlaps(subnet("0.0.0.0/0")));
    }
}
