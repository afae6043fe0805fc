// SPDX-License-Identifier: Apache-2.0
//! Maximum transmission units.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, ensure};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An MTU in bytes, from the kernel's minimum for IPv4 to the maximum of a veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[schema(minimum = 68, maximum = 65535, example = 1450)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mtu(u32);

impl Mtu {
    /// The number of bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Mtu {
    type Error = Error;

    fn try_from(bytes: u32) -> Result<Self, Error> {
        ensure!((68..=65535).contains(&bytes), "MTU {bytes} is not between 68 and 65535");
        Ok(Self(bytes))
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> u32 {
        mtu.0
    }
}

impl FromStr for Mtu {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes: Option<u32> = text.parse().ok();
        let bytes =
            bytes.with_context(|| format!("MTU {text:?} is not a number of bytes: give one between 68 and 65535"));
        bytes?.try_into()
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mtu_is_what_the_kernel_accepts() {
        for (text, fits) in
            [("68", true), ("1500", true), ("65535", true), ("67", false), ("65536", false), ("x", false)]
        {
            let mtu = text.parse::<Mtu>();
            assert_eq!(mtu.is_ok(), fits, "{text}");
            assert!(mtu.is_ok() || mtu.unwrap_err().to_string().contains(text));
        }
    }
}
