// SPDX-License-Identifier: Apache-2.0
//! Options of a pool (`--ipam-opt`) and of the daemon (`--default-pool`).

use std::net::Ipv6Addr;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use ciao_common::api::go::Options;
use ciao_common::api::ipam::SERIAL;
use ciao_common::types::{Subnet, TenantId, VnicId};

/// The options of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolOptions {
    /// `tenant`. None: isolated from all other pools.
    pub tenant: Option<TenantId>,
    /// `com.docker.network.ipam.serial`: dynamic addresses in ascending order.
    pub serial: bool,
}

impl PoolOptions {
    /// Parses `--ipam-opt`. Ignores other keys of the engine (`com.docker.…`).
    ///
    /// # Errors
    /// An unknown option, an invalid tenant.
    pub fn parse(options: &Options) -> Result<Self> {
        for key in options.texts().keys() {
            ensure!(
                key == "tenant" || key.starts_with("com.docker."),
                "unknown option --ipam-opt {key}: the options of ciao-ipam are tenant and {SERIAL}"
            );
        }
        let empty = options.value("tenant").is_some_and(|value| value == "");
        ensure!(!empty, "--ipam-opt tenant= is empty: give the tenant's name, or omit the option");
        let tenant = options.text("tenant").map(|text| text.parse()).transpose().context("--ipam-opt tenant")?;
        Ok(Self { tenant, serial: options.flag(SERIAL) })
    }
}

/// A subnet divided into pools of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DefaultPool {
    base: Subnet,
    size: u8,
}

impl DefaultPool {
    /// Pools of prefix length `size` in `base`.
    ///
    /// # Errors
    /// `size` is shorter than the base's prefix or longer than an address.
    pub fn new(base: Subnet, size: u8) -> Result<Self> {
        ensure!(
            size >= base.prefix() && size <= base.family().bits(),
            "default pool {base},{size}: give a size between /{} and /{}",
            base.prefix(),
            base.family().bits()
        );
        Ok(Self { base, size })
    }

    /// The lowest pool that begins at `start` or above.
    pub(crate) fn first_from(self, start: u128) -> Option<Subnet> {
        let (family, base) = (self.base.family(), self.base.range());
        let hosts = 1_u128.checked_shl(u32::from(family.bits() - self.size)).map_or(u128::MAX, |count| count - 1);
        let first = if start & hosts == 0 { start } else { (start | hosts).checked_add(1)? };
        let within = (base.first..=base.last).contains(&first);
        within.then(|| Subnet::new(family.address(first), self.size).ok()).flatten()
    }

    /// The divided subnet.
    pub fn base(self) -> Subnet {
        self.base
    }

    /// The prefix length of the pools.
    pub fn size(self) -> u8 {
        self.size
    }
}

impl FromStr for DefaultPool {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((base, size)) = text.split_once(',') else {
            bail!("{text:?} is not a valid default pool: give CIDR,SIZE such as 10.200.0.0/16,24");
        };
        let size = size.trim_start_matches('/');
        let size = size.parse().with_context(|| format!("{text:?}: {size:?} is not a valid prefix length"))?;
        Self::new(base.parse()?, size)
    }
}

/// The engine's documented default pools, from the last to the first: the engine only considers the host's routes when
/// it allocates a subnet for `docker_gwbridge`, and a container may be on both.
pub fn builtin_pools() -> Vec<DefaultPool> {
    let large = (17..=31).rev().map(|number| format!("172.{number}.0.0/16,16"));
    let pools = large.chain(["192.168.0.0/16,20".to_owned()]);
    pools.map(|text| text.parse().expect("a constant")).collect()
}

/// A random /48 of `fd00::/8` (RFC 4193, 3.2).
pub fn random_ula() -> String {
    let random = VnicId::random();
    let digits = u64::from_str_radix(random.as_str(), 16).expect("an id is hexadecimal");
    let address = Ipv6Addr::from((0xfd_u128 << 120) | (u128::from(digits) << 80));
    format!("{address}/48")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_is_named_with_the_known_ones() {
        let error = PoolOptions::parse(&[("tenat", "x")].into()).unwrap_err().to_string();
        assert!(error.contains("tenat") && error.contains("options of ciao-ipam are tenant"), "{error}");
        assert!(PoolOptions::parse(&[("com.docker.new", "x")].into()).is_ok());
    }

    #[test]
    fn a_default_pool_is_a_cidr_and_a_size() {
        assert!("10.200.0.0/16,24".parse::<DefaultPool>().is_ok());
        for wrong in ["10.200.0.0/16", "10.200.0.0/16,8", "10.200.0.0/16,33", "x,24", "10.0.0.0/8,x"] {
            assert!(wrong.parse::<DefaultPool>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_random_ula_is_a_48_of_fd() {
        let ula: Subnet = random_ula().parse().unwrap();
        assert!(ula.to_string().starts_with("fd") && ula.prefix() == 48);
    }
}
