// SPDX-License-Identifier: Apache-2.0
//! The options of networks and of endpoints.

mod endpoint;
mod network;

use anyhow::{Context, Result, ensure};

pub use endpoint::EndpointOptions;
pub(crate) use endpoint::prefix_of;
pub use network::NetworkOptions;

fn refuse_unknown<'a>(keys: impl IntoIterator<Item = &'a String>, known: &[&str], flag: &str) -> Result<()> {
    for key in keys {
        ensure!(
            known.contains(&key.as_str()),
            "unknown option {flag} {key}: options of ciao-net are {}",
            known.join(", ")
        );
    }
    Ok(())
}

fn parsed<T>(text: Option<&str>, key: &str) -> Result<Option<T>>
where
    T: std::str::FromStr,
    T::Err: Into<anyhow::Error>,
{
    text.map(|text| text.parse().map_err(Into::into).with_context(|| format!("option {key}={text}"))).transpose()
}
