// SPDX-License-Identifier: Apache-2.0
//! Few names and addresses, so that calls meet each other.

use arbitrary::Arbitrary;
use serde_json::{Value, json};

use crate::host::Host;
use crate::scenes::id;

/// Defines a choice among a few texts.
macro_rules! few {
    ($(#[$doc:meta])* $name:ident: $($variant:ident = $text:literal),+) => {
        $(#[$doc])*
        #[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            pub(crate) fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

few!(
    /// `""`: nobody.
    Tenant: Nobody = "", Red = "red", Blue = "blue"
);
few!(Instance: One = "i1", Two = "i2", Three = "i3");
few!(Bridge: One = "br1", Two = "br2", Host = "lan0", Link = "eth0", Docker = "docker0");
few!(Mac: One = "02:00:00:00:00:01", Two = "02:00:00:00:00:02", Three = "06:00:00:00:00:03");
few!(
    /// Small ones, which run full; some overlap.
    Subnet: Four = "10.1.0.0/28", Half = "10.1.0.0/29", Other = "10.2.0.0/29", Pair = "10.3.0.0/31",
    One = "10.3.0.8/32", Six = "fd00:1::/124", SixPair = "fd00:2::/127", Wide = "10.0.0.0/8", All = "0.0.0.0/0",
    Odd = "10.1.0.5/28", Link = "169.254.64.0/24", Local = "127.0.0.0/29"
);
few!(Egress: Nat = "nat", Gateway = "gateway", Docker = "docker", Nobody = "none");
few!(Egress6: Nat = "nat", Route = "route", Nobody = "none");
few!(HostAddress: Any = "", Any4 = "0.0.0.0", Any6 = "::", Foreign = "192.0.2.1");

/// A Docker network, of four.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Network(u8);

/// An endpoint, of eight.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Endpoint(u8);

/// A pool that was answered, the how-manieth.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Pool(u8);

/// A VNIC that was answered, the how-manieth.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Vnic(u8);

/// A host's number in a subnet.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Number(u8);

impl Network {
    pub(crate) fn id(self) -> String {
        id(&format!("n{}", self.0 % 4))
    }
}

impl Endpoint {
    pub(crate) fn id(self) -> String {
        id(&format!("e{}", self.0 % 8))
    }
}

impl Pool {
    pub(crate) fn id(self, host: &Host) -> String {
        chosen(&host.pools, self.0, "0123456789abcdef")
    }
}

impl Vnic {
    pub(crate) fn id(self, host: &Host) -> String {
        chosen(&host.vnics, self.0, "0123456789")
    }
}

/// One that was answered, or one that never was.
fn chosen(ids: &[String], number: u8, unknown: &str) -> String {
    let index = usize::from(number) % (ids.len() + 1);
    ids.get(index).map_or_else(|| unknown.to_owned(), Clone::clone)
}

impl Subnet {
    pub(crate) fn is_v6(self) -> bool {
        self.text().contains(':')
    }

    /// The address with that number, within the first seventeen: some are outside of the subnet.
    pub(crate) fn address(self, number: Number) -> String {
        let number = number.0 % 17;
        let network = self.text().split('/').next().unwrap_or_default();
        match network.rsplit_once('.') {
            Some((head, last)) => format!("{head}.{}", last.parse::<u8>().unwrap_or(0).saturating_add(number)),
            None => format!("{network}{number:x}"),
        }
    }

    /// As [`Self::address`], with the subnet's prefix.
    pub(crate) fn cidr(self, number: Number) -> String {
        let prefix = self.text().split('/').nth(1).unwrap_or_default();
        format!("{}/{prefix}", self.address(number))
    }

    /// Of `CreateNetwork`.
    pub(crate) fn data(self, gateway: Option<Number>, space: &str) -> Value {
        let gateway = gateway.map_or_else(String::new, |number| self.cidr(number));
        json!({ "AddressSpace": space, "Pool": self.text(), "Gateway": gateway, "AuxAddresses": null })
    }
}

impl Number {
    pub(crate) fn first() -> Self {
        Self(1)
    }
}
