// SPDX-License-Identifier: Apache-2.0
//! Identifiers: Docker's (network, endpoint) and ours (tenant, instance, VNIC).
//!
//! They are used as database keys, file names and in logs: never empty, no blanks or slashes, of bounded length.
//! Docker's own ids are 64 hexadecimal digits, or 25 letters and digits in a swarm.

use anyhow::{Result, ensure};

use super::schema::{NAME, described};
use super::text;

fn check(text: &str, what: &str, max: usize) -> Result<()> {
    ensure!(!text.is_empty(), "{what} is empty: give a name");
    ensure!(text.len() <= max, "{what} {text:?} has {} bytes: give at most {max}", text.len());
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    ensure!(
        text.bytes().all(good) && text.as_bytes()[0].is_ascii_alphanumeric(),
        "{what} {text:?} may contain only letters, digits, '_', '.' and '-', and must start with a letter or digit"
    );
    Ok(())
}

fn check_hex(text: &str) -> Result<()> {
    let is_hex = text.len() == 10 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    ensure!(is_hex, "VNIC id {text:?} is not ten hexadecimal digits: see \"ciao-net vnic list\"");
    Ok(())
}

text!(
    /// Docker's id of a network.
    NetworkId, check("network id", 64)
);
text!(
    /// Docker's id of an endpoint: one attachment of a container to a network, new at every start.
    EndpointId, check("endpoint id", 64)
);
text!(
    /// A tenant, whose addresses and links are isolated from all others. Names a network namespace.
    TenantId, check("tenant", 63)
);
text!(
    /// A launcher's instance: the controller's name for a container.
    InstanceId, check("instance", 128)
);
text!(
    /// A host of a cluster, as its controller names it.
    HostId, check("host", 128)
);
text!(
    /// A VNIC: a veth pair created by ciao-net. Ten hexadecimal digits.
    VnicId, check_hex()
);

described!(
    NetworkId,
    NAME,
    64,
    "Docker's ID of a network.",
    "3f1c0f5b8f4d4f1f9f0a6a6d5b1e2c3d4e5f60718293a4b5c6d7e8f901234567"
);
described!(EndpointId, NAME, 64, "Docker's ID of an endpoint: one attachment of a container to a network.", "a1");
described!(TenantId, NAME, 63, "A tenant.", "red");
described!(InstanceId, NAME, 128, "A launcher's instance: its name for a container.", "web");
described!(HostId, NAME, 128, "A host of a cluster, as its controller names it.", "h2");
described!(VnicId, "^[0-9a-f]{10}$", 10, "A VNIC.", "0123456789");

impl NetworkId {
    /// The first twelve characters, as `docker network ls` prints it.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(12)]
    }
}

impl EndpointId {
    /// The first twelve characters, as in Docker's logs.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(12)]
    }
}

impl VnicId {
    /// A new random id of 40 bits, so that the link names made of it are never reused.
    pub fn random() -> Self {
        Self(random_hex::<5>())
    }
}

/// `N` random bytes from the kernel, as hexadecimal digits.
pub(crate) fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_never_empty_blank_or_a_path() {
        for wrong in ["", " ", "a b", "../x", "a/b", ".hidden", "-x", "ä"] {
            let error = wrong.parse::<TenantId>().unwrap_err().to_string();
            assert!(error.starts_with("tenant"), "{error}");
        }
        assert!("x".repeat(64).parse::<TenantId>().is_err());
        assert_eq!("acme-1.eu_x".parse::<TenantId>().unwrap().as_str(), "acme-1.eu_x");
    }

    #[test]
    fn a_short_id_is_docker_s_first_twelve() {
        let id: NetworkId = "9bcbf369d2afaa304dbbf7bfcf342d41".parse().unwrap();
        assert_eq!(id.short(), "9bcbf369d2af");
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(VnicId::random(), VnicId::random());
        assert!(VnicId::random().as_str().parse::<VnicId>().is_ok());
    }
}
