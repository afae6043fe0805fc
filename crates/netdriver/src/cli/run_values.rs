// SPDX-License-Identifier: Apache-2.0
//! Values of `docker run`'s options, in Docker's spelling.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use serde_json::{Value, json};

/// `-p [[ADDRESS:]PORT:]PORT[/PROTOCOL]`; a port may be a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    address: Option<IpAddr>,
    host: Option<RangeInclusive<u16>>,
    container: RangeInclusive<u16>,
    protocol: String,
}

impl FromStr for Binding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        ensure!(["tcp", "udp", "sctp"].contains(&protocol), "protocol {protocol:?} is not tcp, udp or sctp");
        let (rest, container) = ports.rsplit_once(':').map_or((None, ports), |(rest, port)| (Some(rest), port));
        let container = range(container)?;
        let (address, host) = match rest.map(|rest| rest.rsplit_once(':').map_or((None, rest), |(a, p)| (Some(a), p))) {
            None => (None, None),
            Some((address, "")) => (address, None),
            Some((address, port)) => (address, Some(range(port)?)),
        };
        if let Some(host) = &host {
            ensure!(
                host.len() == container.len() || container.len() == 1,
                "{text}: the ranges of ports differ in length"
            );
        }
        let address = address.filter(|address| !address.is_empty()).map(|address| {
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
            bare.parse().with_context(|| format!("{address:?} is not an address of the host"))
        });
        Ok(Self { address: address.transpose()?, host, container, protocol: protocol.to_owned() })
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>> {
    let port = |text: &str| {
        let port: Option<u16> = text.parse().ok().filter(|port| *port > 0);
        port.with_context(|| format!("port {text:?} is not a number from 1 to 65535"))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first)?..=port(last)?;
    ensure!(!range.is_empty(), "range of ports {text} ends before it begins");
    Ok(range)
}

impl Binding {
    /// Docker's `PortBindings`: `80/tcp`, the host's address and port; both may be empty.
    pub(super) fn ports(&self) -> Vec<(String, String, String)> {
        let address = self.address.map_or_else(String::new, |address| address.to_string());
        let each = self.container.clone().enumerate();
        each.map(|(nth, port)| {
            let host = match &self.host {
                None => String::new(),
                // Docker takes any one of them.
                Some(host) if host.len() > self.container.len() => format!("{}-{}", host.start(), host.end()),
                Some(host) => host.clone().nth(nth).unwrap_or_default().to_string(),
            };
            (format!("{port}/{}", self.protocol), address.clone(), host)
        })
        .collect()
    }
}

/// `-v [SOURCE:]TARGET[:OPTIONS]`.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    source: Option<String>,
    /// With its options.
    target: String,
}

impl FromStr for Volume {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (source, target) = match text.split_once(':') {
            Some((source, target)) => (Some(source.to_owned()), target),
            None => (None, text),
        };
        ensure!(target.starts_with('/'), "volume {text:?}: the container's path must be absolute");
        ensure!(source.as_deref() != Some(""), "volume {text:?} has no source");
        Ok(Self { source, target: target.to_owned() })
    }
}

impl Volume {
    /// As `Binds` takes it, a relative source made absolute; nothing for an anonymous volume.
    ///
    /// # Errors
    /// There is no current folder.
    pub(super) fn bind(&self) -> Result<Option<String>> {
        let Some(source) = &self.source else { return Ok(None) };
        let source =
            if source.starts_with('.') { std::path::absolute(source)?.display().to_string() } else { source.clone() };
        Ok(Some(format!("{source}:{}", self.target)))
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }
}

/// `--memory`: bytes, or with a unit b, k, m, g, t.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let (number, unit) = lower.split_at(split);
        let shift = match unit.trim() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => bail!("{text:?} is not a number of bytes: give one such as 512m"),
        };
        let number: f64 = number.parse().with_context(|| format!("{text:?} is not a number of bytes"))?;
        let bytes = number * (1_u64 << shift) as f64;
        ensure!((1.0..9e18).contains(&bytes), "{text} is out of range");
        Ok(Self(bytes as u64))
    }
}

/// `--cpus`, in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cpus(pub(super) u64);

impl FromStr for Cpus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number: f64 = text.parse().with_context(|| format!("{text:?} is not a number of processors"))?;
        ensure!((0.001..1e6).contains(&number), "{text} processors: give a number such as 1.5");
        Ok(Self((number * 1e9).round() as u64))
    }
}

/// `--restart`.
#[derive(Clone, Debug)]
pub(super) struct Restart {
    name: String,
    retries: u32,
}

impl FromStr for Restart {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, retries) = match text.split_once(':') {
            Some((name, retries)) => {
                ensure!(name == "on-failure", "only on-failure takes a number of retries");
                (name, retries.parse().with_context(|| format!("{retries:?} is not a number of retries"))?)
            }
            None => (text, 0),
        };
        ensure!(
            ["no", "on-failure", "always", "unless-stopped"].contains(&name),
            "restart policy {name:?} is unknown: give no, on-failure[:RETRIES], always or unless-stopped"
        );
        Ok(Self { name: name.to_owned(), retries })
    }
}

impl Restart {
    pub(super) fn json(&self) -> Value {
        json!({ "Name": self.name, "MaximumRetryCount": self.retries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Vec<(String, String, String)> {
        text.parse::<Binding>().unwrap().ports()
    }

    fn port(container: &str, address: &str, host: &str) -> (String, String, String) {
        (container.into(), address.into(), host.into())
    }

    #[test]
    fn ports_are_written_as_docker_takes_them() {
        assert_eq!(ports("80"), [port("80/tcp", "", "")]);
        assert_eq!(ports("8080:80"), [port("80/tcp", "", "8080")]);
        assert_eq!(ports("127.0.0.1::80"), [port("80/tcp", "127.0.0.1", "")]);
        assert_eq!(ports("[::1]:53:53/udp"), [port("53/udp", "::1", "53")]);
        assert_eq!(ports("8080-8081:80-81"), [port("80/tcp", "", "8080"), port("81/tcp", "", "8081")]);
        assert_eq!(ports("8080-8089:80"), [port("80/tcp", "", "8080-8089")]);
        for wrong in ["", "0", "65536", "x:80", "80/icmp", "8080-8082:80-81", "82-81", "localhost:80:80"] {
            assert!(wrong.parse::<Binding>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_shares_are_docker_s() {
        for (text, bytes) in [("512m", 536_870_912), ("1.5g", 1_610_612_736), ("4096", 4096), ("1GiB", 1 << 30)] {
            assert_eq!(text.parse::<Bytes>().unwrap(), Bytes(bytes));
        }
        assert_eq!("1.5".parse::<Cpus>().unwrap(), Cpus(1_500_000_000));
        for wrong in ["", "x", "5 apples", "-1", "0"] {
            assert!(wrong.parse::<Bytes>().is_err() && wrong.parse::<Cpus>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn volumes_have_an_absolute_target() {
        let bind = |text: &str| text.parse::<Volume>().unwrap().bind().unwrap();
        assert_eq!(bind("/a:/b:ro").as_deref(), Some("/a:/b:ro"));
        assert_eq!(bind("/b"), None);
        assert!(bind("./a:/b").unwrap().starts_with('/'));
        for wrong in ["a", "a:b", ":/b"] {
            assert!(wrong.parse::<Volume>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_restart_policy_is_one_of_docker_s() {
        assert_eq!("on-failure:3".parse::<Restart>().unwrap().json()["MaximumRetryCount"], 3);
        for wrong in ["", "sometimes", "always:3", "on-failure:x"] {
            assert!(wrong.parse::<Restart>().is_err(), "{wrong}");
        }
    }
}
