// SPDX-License-Identifier: Apache-2.0
//! Texts with an invariant.

/// Defines a string newtype that `check(text, given…)` accepts when it is parsed or deserialized.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:ident($($given:expr),*)) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde_with::SerializeDisplay, serde_with::DeserializeFromStr)]
        pub struct $name(String);

        impl $name {
            /// The text as received.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = anyhow::Error;

            fn from_str(text: &str) -> anyhow::Result<Self> {
                $check(text $(, $given)*)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use text;
