// SPDX-License-Identifier: Apache-2.0
//! Docker's address spaces: local to an engine, and global in a swarm.
//!
//! `GetDefaultAddressSpaces` returns a new local one each time. The engine passes it in `RequestPool` and in
//! `CreateNetwork` of the same network: the only id that both drivers receive.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, ensure};
use serde::{Deserialize, Serialize};

use super::words;

/// The scope of networks. Scopes are isolated from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Networks of one engine.
    Local,
    /// Networks of a swarm, allocated by its leader.
    Global,
}

words!(Scope, "address space", Local = "local", Global = "global");

/// An address space: `global`, `local`, or `local.` and a nonce of up to 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressSpace {
    scope: Scope,
    nonce: String,
}

impl AddressSpace {
    /// The address space of a scope, without a nonce.
    pub fn of(scope: Scope) -> Self {
        Self { scope, nonce: String::new() }
    }

    /// A local address space that was never used before.
    pub fn fresh() -> Self {
        Self { scope: Scope::Local, nonce: super::random_hex::<6>() }
    }

    /// Local or global.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Identifies the requests of one network; empty for spaces of earlier versions.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }
}

impl fmt::Display for AddressSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.scope)?;
        if self.nonce.is_empty() { Ok(()) } else { write!(f, ".{}", self.nonce) }
    }
}

impl FromStr for AddressSpace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((scope, nonce)) = text.split_once('.') else { return Ok(Self::of(text.parse()?)) };
        let scope = scope.parse()?;
        let is_nonce = (1..=32).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_hexdigit());
        ensure!(scope == Scope::Local && is_nonce, "{text:?} is not an address space of ciao-ipam");
        Ok(Self { scope, nonce: nonce.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_survives_formatting_and_parsing() {
        for text in ["local", "global", "local.0123456789ab"] {
            assert_eq!(text.parse::<AddressSpace>().unwrap().to_string(), text);
        }
        let fresh = AddressSpace::fresh();
        assert_eq!(fresh.to_string().parse::<AddressSpace>().unwrap(), fresh);
        assert_ne!(AddressSpace::fresh(), AddressSpace::fresh());
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in [
            "",
            "LocalDefault",
            "mars",
            "local.",
            "local.xyz",
            "global.01",
            "local.0 1",
            &format!("local.{}", "0".repeat(33)),
        ] {
            assert!(wrong.parse::<AddressSpace>().is_err(), "{wrong}");
        }
    }
}
