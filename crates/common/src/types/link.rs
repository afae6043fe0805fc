// SPDX-License-Identifier: Apache-2.0
//! The name of a network link.

use anyhow::{Result, ensure};

use super::schema::described;
use super::text;

text!(
    /// A link's name: 1 to 15 bytes (`IFNAMSIZ` less the NUL), no blank, slash or colon, not `.` or `..`
    /// (the kernel's `dev_valid_name`).
    LinkName, check()
);

described!(LinkName, "^[!-.0-9;-~]{1,15}$", 15, "The name of a network link.", "br-red");

impl LinkName {
    /// Whether the name has no special meaning anywhere: only letters, digits, `_`, `.` and `-`. The kernel accepts
    /// more, but `+` is a wildcard of iptables, `*` of nft, and neither can escape a quotation mark.
    pub fn is_plain(&self) -> bool {
        self.0.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    }
}

fn check(text: &str) -> Result<()> {
    ensure!((1..=15).contains(&text.len()), "link name {text:?} has {} bytes: give 1 to 15", text.len());
    ensure!(
        text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':') && text != "." && text != "..",
        "link name {text:?} must not contain blanks, '/' or ':', nor be '.' or '..'"
    );
    Ok(())
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
