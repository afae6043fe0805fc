// SPDX-License-Identifier: Apache-2.0
//! Options of the exchange between hosts.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ciao_common::types::Subnet;
use clap::Args;

use crate::exchange::{ExchangeConfig, Identity};

#[derive(Args)]
pub(super) struct ExchangeOptions {
    /// Exchange addresses with other hosts: address of this host, the same port on all
    ///
    /// Replaces a controller's lists of hosts and remotes. Requires the other --exchange options.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen,
        requires_all = ["exchange_ca", "exchange_cert", "exchange_key", "exchange_peers"])]
    exchange: Option<SocketAddr>,
    /// CA certificates that verify those of the other hosts, PEM
    #[arg(long, value_name = "FILE", requires = "exchange")]
    exchange_ca: Option<PathBuf>,
    /// Certificate of this host, PEM; its DNS name is the host's name in --exchange-peers
    #[arg(long, value_name = "FILE", requires = "exchange")]
    exchange_cert: Option<PathBuf>,
    /// Key of --exchange-cert, PEM
    #[arg(long, value_name = "FILE", requires = "exchange")]
    exchange_key: Option<PathBuf>,
    /// Hosts, this one included: a line NAME ADDRESS [MTU] for each, read again when it changes
    #[arg(long, value_name = "FILE", requires = "exchange")]
    exchange_peers: Option<PathBuf>,
    /// Route to tenants' subnets that other hosts announce, if they are in this one (repeatable; default: none)
    ///
    /// Give none that has addresses of networks of your own: a host that was broken into could lead tenants' traffic
    /// for these to itself.
    #[arg(long = "exchange-subnet", value_name = "CIDR", requires = "exchange")]
    pub(super) subnets: Vec<Subnet>,
}

/// Where other hosts can reach this one.
fn listen(text: &str) -> Result<SocketAddr> {
    let address: SocketAddr = text.parse().with_context(|| format!("{text:?}: give ADDRESS:PORT"))?;
    let ip = address.ip();
    ensure!(!ip.is_loopback() && !ip.is_multicast(), "{ip} cannot be reached by other hosts: give this host's address");
    ensure!(address.port() > 0, "port 0: give the port of all hosts");
    Ok(address)
}

impl ExchangeOptions {
    /// What is set; `None`: no exchange.
    pub(super) fn config(&self) -> Option<ExchangeConfig> {
        let Self { exchange, exchange_ca, exchange_cert, exchange_key, exchange_peers, .. } = self;
        let identity = Identity { ca: exchange_ca.clone()?, cert: exchange_cert.clone()?, key: exchange_key.clone()? };
        Some(ExchangeConfig { listen: (*exchange)?, identity, hosts: exchange_peers.clone()? })
    }
}
