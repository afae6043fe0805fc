// SPDX-License-Identifier: Apache-2.0
//! The name of a network link.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, ensure};
use serde_with::{DeserializeFromStr, SerializeDisplay};

/// A link's name: 1 to 15 bytes (`IFNAMSIZ` less the NUL), no blank, slash or colon, not `.` or `..`
/// (the kernel's `dev_valid_name`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, SerializeDisplay, DeserializeFromStr)]
pub struct LinkName(String);

impl LinkName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name has no special meaning anywhere: only letters, digits, `_`, `.` and `-`. The kernel accepts more,
    /// but `+` is a wildcard of iptables, `*` of nft, and neither can escape a quotation mark.
    pub fn is_plain(&self) -> bool {
        self.0.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    }
}

impl FromStr for LinkName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        ensure!((1..=15).contains(&text.len()), "link name {text:?} has {} bytes: give 1 to 15", text.len());
        ensure!(
            text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':') && text != "." && text != "..",
            "link name {text:?} must not contain blanks, '/' or ':', nor be '.' or '..'"
        );
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_name_is_what_the_kernel_accepts() {
        for good in ["a", "br-red", "123456789012345"] {
            assert!(good.parse::<LinkName>().is_ok(), "{good}");
        }
        for wrong in ["", "1234567890123456", "a/b", "a b", "a:b", ".", "..", "ü"] {
            assert!(wrong.parse::<LinkName>().is_err(), "{wrong}");
        }
    }
}
