// SPDX-License-Identifier: Apache-2.0
//! Settings of the host that tenants' egress needs.

use std::fmt;

use anyhow::Result;
use ciao_common::types::Family;

/// A setting of the host's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSetting {
    /// A file below `/proc/sys`.
    Sysctl(String),
    /// What happens to packets that no rule of the firewall's chain FORWARD decides on: `ACCEPT` or `DROP`.
    ForwardPolicy(Family),
}

/// The command that sets a policy, before its value.
const POLICIES: [(Family, &str); 2] = [(Family::V4, "iptables -P FORWARD"), (Family::V6, "ip6tables -P FORWARD")];

/// As sysctl(8) or iptables(8) take it.
impl fmt::Display for HostSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl(key) => f.write_str(&dots(key)),
            Self::ForwardPolicy(family) => {
                f.write_str(POLICIES.iter().find(|(of, _)| of == family).map_or("", |(_, name)| name))
            }
        }
    }
}

impl From<&str> for HostSetting {
    fn from(name: &str) -> Self {
        let policy = POLICIES.iter().find(|(_, policy)| *policy == name);
        policy.map_or_else(|| Self::Sysctl(dots(name)), |(family, _)| Self::ForwardPolicy(*family))
    }
}

/// sysctl(8) writes dots for slashes and, in the names of links, slashes for dots.
fn dots(key: &str) -> String {
    let swapped = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    key.chars().map(swapped).collect()
}

/// A setting of the host's own, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostChange {
    /// The setting.
    pub setting: HostSetting,
    /// Its value.
    pub before: String,
    /// Its value afterwards.
    pub after: String,
}

/// The host's own settings.
pub trait HostSettings {
    /// What must be changed, in this order, so that the host forwards a family and is no open router then. None: it
    /// forwards already, or the kernel does not have the family.
    fn missing_forwarding(&self, family: Family) -> Result<Vec<HostChange>>;

    /// What must be changed on a host that forwards IPv6 so that links accept router advertisements as if it did not.
    fn missing_advertisements(&self) -> Result<Vec<HostChange>>;

    /// The value of a setting; `None`: it does not exist.
    fn host_setting(&self, setting: &HostSetting) -> Result<Option<String>>;

    /// Changes a setting.
    fn set_host_setting(&self, setting: &HostSetting, value: &str) -> Result<()>;

    /// Which boot of the host this is.
    fn boot_id(&self) -> Result<String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_from_the_name_that_it_is_shown_by() {
        for (name, setting) in [
            ("net.ipv4.ip_forward", HostSetting::Sysctl("net/ipv4/ip_forward".to_owned())),
            ("net.ipv6.conf.eth0/100.accept_ra", HostSetting::Sysctl("net/ipv6/conf/eth0.100/accept_ra".to_owned())),
            ("ip6tables -P FORWARD", HostSetting::ForwardPolicy(Family::V6)),
        ] {
            assert_eq!(HostSetting::from(name), setting);
            assert_eq!(setting.to_string(), name);
        }
    }
}
