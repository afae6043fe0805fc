// SPDX-License-Identifier: Apache-2.0
//! Where metrics are served: a Unix socket or a port.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Error, Result, anyhow};

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `ADDRESS:PORT`.
    Tcp(SocketAddr),
}

impl FromStr for MetricsAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(path) => Err(anyhow!("socket {path:?} is not an absolute path")),
            None => {
                Ok(Self::Tcp(text.parse().with_context(|| {
                    format!("{text:?} is neither unix:PATH nor ADDRESS:PORT, such as 127.0.0.1:9477")
                })?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_or_a_port() {
        assert_eq!("unix:/run/x".parse::<MetricsAddress>().unwrap(), MetricsAddress::Unix("/run/x".into()));
        assert!(matches!("[::1]:9477".parse().unwrap(), MetricsAddress::Tcp(_)));
        for wrong in ["", "unix:", "unix:x", "9477", "localhost:9477"] {
            assert!(wrong.parse::<MetricsAddress>().is_err(), "{wrong}");
        }
    }
}
