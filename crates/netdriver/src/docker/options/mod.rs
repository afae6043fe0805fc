// SPDX-License-Identifier: Apache-2.0
//! The options of networks and of endpoints.

mod endpoint;
mod network;
mod routes;

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

pub use endpoint::EndpointOptions;
pub(crate) use endpoint::prefix_of;
pub use network::NetworkOptions;

fn refuse_unknown(keys: impl IntoIterator<Item = impl AsRef<str>>, known: &str, flag: &str) -> Result<()> {
    for key in keys {
        let key = key.as_ref();
        let is_known = known.split(' ').any(|known| known == key);
        ensure!(is_known, "unknown option {flag} {key}: options of ciao-net are {}", known.replace(' ', ", "));
    }
    Ok(())
}

/// Options as a user gave them. An empty one counts as absent.
struct UserOptions<'a>(&'a BTreeMap<String, String>);

impl<'a> UserOptions<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn parsed<T: FromStr<Err = Error>>(&self, key: &str) -> Result<Option<T>> {
        self.text(key).map(|text| text.parse().with_context(|| format!("option {key}={text}"))).transpose()
    }

    /// On by default.
    fn switch(&self, key: &str) -> Result<bool> {
        match self.text(key) {
            None | Some("on" | "true") => Ok(true),
            Some("off" | "false") => Ok(false),
            Some(text) => bail!("--opt {key}={text}: give on or off"),
        }
    }

    /// The items of a list, with commas or blanks between.
    fn list(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.text(key).unwrap_or_default().split([',', ' ']).filter(|item| !item.is_empty())
    }

    fn parsed_list<T: FromStr<Err = Error>>(&self, key: &str) -> Result<Vec<T>> {
        let items = self.list(key).map(str::parse).collect::<Result<_>>();
        items.with_context(|| format!("--opt {key}={}", self.text(key).unwrap_or_default()))
    }
}
