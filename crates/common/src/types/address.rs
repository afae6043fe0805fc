// SPDX-License-Identifier: Apache-2.0
//! IP addresses: family, number and text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Error};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// 32 bits.
    V4,
    /// 128 bits.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Length of an address in bits.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address with that [`number`]. IPv4 takes its low 32 bits.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Self::V4 => {
                let low = u32::try_from(number & u128::from(u32::MAX)).expect("masked to 32 bits");
                Ipv4Addr::from(low).into()
            }
            Self::V6 => Ipv6Addr::from(number).into(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address as a number, in network byte order; an IPv4 address is below 2^32.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// An address as bytes, in network byte order: 4 or 16.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address with these [`octets`]; `None`: they are neither 4 nor 16.
pub fn from_octets(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// Parses an address without prefix.
///
/// # Errors
/// The text is not an IP address, or has a prefix.
pub fn parse_address(text: &str) -> Result<IpAddr, Error> {
    text.parse().ok().with_context(|| format!("{text:?} is not an IP address: give one such as 10.5.0.2 or fd00:5::2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_after_its_number_and_its_octets() {
        for text in ["0.0.0.0", "255.255.255.255", "10.5.0.9", "::", "fd00:5::2", "ffff::ffff"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(Family::of(address).address(number(address)), address);
            assert_eq!(from_octets(&octets(address)), Some(address));
        }
    }
}
