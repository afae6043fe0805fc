// SPDX-License-Identifier: Apache-2.0
//! Rate limits of VNICs.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, ensure};
use serde_with::{DeserializeFromStr, SerializeDisplay};

use super::schema::described;

/// Bits per second in the notation of `tc`: `500kbit`, `100mbit`, `2gbit`. At least 64kbit, so that frames of maximum
/// size still pass; at most what the kernel's limits hold, rounded (nft_limit: 146gbit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, SerializeDisplay, DeserializeFromStr)]
pub struct Rate(u64);

const UNITS: [(&str, u64); 4] = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

described!(
    Rate,
    "^(?:(?:[1-9][0-9]?|100)gbit|(?:[1-9][0-9]{0,4}|100000)mbit\
     |(?:6[4-9]|[7-9][0-9]|[1-9][0-9]{2,7}|100000000)kbit\
     |(?:6[4-9][0-9]{3}|[7-9][0-9]{4}|[1-9][0-9]{5,10}|100000000000)bit)$",
    15,
    "A rate limit in the notation of tc, from 64kbit to 100gbit.",
    "100mbit"
);

impl Rate {
    /// Bytes per second.
    pub fn bytes(self) -> u64 {
        self.0 / 8
    }

    /// Burst in bytes: 10 ms at this rate, but at least the largest segment the kernel passes on whole (GSO), with its
    /// header.
    pub fn burst(self) -> u32 {
        u32::try_from(self.bytes() / 100).unwrap_or(u32::MAX).max(66_000)
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
            number.parse::<u64>().ok()?.checked_mul(unit)
        };
        let bits = parse()
            .with_context(|| format!("{text:?} is not a valid rate: give one such as 500kbit, 100mbit, 2gbit"))?;
        ensure!((64_000..=100_000_000_000).contains(&bits), "rate {text} is not between 64kbit and 100gbit");
        Ok(Self(bits))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS.iter().find(|(_, unit)| self.0.is_multiple_of(*unit)).unwrap_or(&("bit", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_parsed_and_printed_as_tc_does() {
        for text in ["64kbit", "100mbit", "2gbit", "1500kbit", "100gbit"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for wrong in ["", "100", "fast", "1kbit", "-1mbit", "101gbit", "9999999gbit", "1.5mbit"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        assert_eq!("100mbit".parse::<Rate>().unwrap().bytes(), 12_500_000);
    }

    #[test]
    fn the_kernel_holds_the_highest_rate() {
        let rate = "100gbit".parse::<Rate>().unwrap();
        // nft_limit_init: tokens = nsecs * (rate + burst) in 64 bits, or EOVERFLOW.
        assert!((rate.bytes() + u64::from(rate.burst())).checked_mul(1_000_000_000).is_some());
    }
}
