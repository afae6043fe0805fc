// SPDX-License-Identifier: Apache-2.0
//! Enums with a word per variant.

/// Implements `Display` and `FromStr` of an enum.
macro_rules! words {
    ($name:ident, $what:literal, $($variant:ident = $word:literal),+) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        impl std::str::FromStr for $name {
            type Err = anyhow::Error;

            fn from_str(text: &str) -> anyhow::Result<Self> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    // The caller adds the value.
                    _ => anyhow::bail!(concat!($what, " is one of {}"), [$($word),+].join(", ")),
                }
            }
        }
    };
}
pub(crate) use words;
