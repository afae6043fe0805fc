// SPDX-License-Identifier: Apache-2.0
//! Ethernet addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context, Error, ensure};
use serde_with::{DeserializeFromStr, SerializeDisplay};

use super::schema::described;

/// A unicast Ethernet address. Parsed from six pairs of hexadecimal digits with colons or dashes; shown in lower
/// case with colons, as Docker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, SerializeDisplay, DeserializeFromStr)]
pub struct MacAddr([u8; 6]);

described!(
    MacAddr,
    "^(?!00(?:[:-]00){5}$)[0-9A-Fa-f][02468ACEace](?:[:-][0-9A-Fa-f]{2}){5}$",
    17,
    "A unicast Ethernet address.",
    "02:00:c0:a8:6f:02"
);

impl MacAddr {
    /// The six bytes, in network order.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// From the kernel's six bytes; `None` for another length or a multicast or zero address.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let octets: [u8; 6] = bytes.try_into().ok()?;
        is_unicast(octets).then_some(Self(octets))
    }

    /// The address of an automatic VNIC: locally administered, determined by owner and IP address, so that it survives
    /// restarts. IPv4 addresses of one owner never collide: they are the last four bytes.
    pub fn derived(owner: &str, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                let hash = fnv1a(owner.as_bytes());
                Self([0x02, hash.to_le_bytes()[0], a, b, c, d])
            }
            IpAddr::V6(v6) => Self::hashed(&[owner.as_bytes(), &v6.octets()].concat()),
        }
    }

    /// The gateway's on every host, in the network with that VNI.
    pub fn gateway(vni: u32) -> Self {
        let [_, a, b, c] = vni.to_be_bytes();
        let [x, y, z] = GATEWAYS;
        Self([x, y, z, a, b, c])
    }

    /// Whether it is one of [`Self::gateway`].
    pub fn is_gateway(self) -> bool {
        self.0.starts_with(&GATEWAYS)
    }

    /// A locally administered address derived from `bytes`.
    pub fn hashed(bytes: &[u8]) -> Self {
        let [a, b, c, d, e, ..] = fnv1a(bytes).to_le_bytes();
        Self([0x06, a, b, c, d, e])
    }
}

/// How gateways' addresses begin: locally administered, unlike any of [`MacAddr::hashed`].
const GATEWAYS: [u8; 3] = [0x0e, 0xc1, 0xa0];

/// FNV-1a, 64 bits: stable over releases and machines, which std's hashers are not.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn is_unicast(octets: [u8; 6]) -> bool {
    octets[0] & 1 == 0 && octets != [0; 6]
}

impl FromStr for MacAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || -> Option<[u8; 6]> {
            let mut octets = [0; 6];
            let mut parts = text.split([':', '-']);
            for octet in &mut octets {
                let part = parts.next().filter(|p| p.len() == 2)?;
                *octet = u8::from_str_radix(part, 16).ok()?;
            }
            parts.next().is_none().then_some(octets)
        };
        let octets =
            parse().with_context(|| format!("{text:?} is not a MAC address: give one such as 02:00:ac:10:00:02"))?;
        ensure!(
            is_unicast(octets),
            "MAC address {text} is multicast or zero: a container needs one with an even first byte, such as 02:…"
        );
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_parsed_and_printed_as_docker_does() {
        let mac: MacAddr = "CA-FE-00-00-10-02".parse().unwrap();
        assert_eq!(mac.to_string(), "ca:fe:00:00:10:02");
        for wrong in
            ["", "ca:fe", "ca:fe:00:00:10:02:03", "01:00:5e:00:00:01", "00:00:00:00:00:00", "+1:00:00:00:00:00"]
        {
            assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_derived_mac_is_the_same_each_time_and_unique_in_a_subnet() {
        let of = |ip: &str| MacAddr::derived("acme", ip.parse().unwrap());
        assert_eq!(of("10.0.0.2"), of("10.0.0.2"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.3"));
        assert_ne!(of("fd00::2"), of("fd00::3"));
        assert_eq!(of("10.0.0.2").octets()[0] & 0x03, 0x02, "locally administered unicast");
    }
}
