// SPDX-License-Identifier: Apache-2.0
//! The resolvers that dockerd gives to containers: those of the host's resolv.conf(5).

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// systemd-resolved's stub, which dockerd passes over for what stands behind it.
const STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));

/// Reads them below a root folder, those that containers can reach: not the host's own loopback, and none on a link.
/// None, where there is no file.
pub(super) fn read(root: &Path) -> BTreeSet<IpAddr> {
    let read = |path| fs::read_to_string(root.join(path)).map_or_else(|_| BTreeSet::new(), |text| nameservers(&text));
    let mut found = read("etc/resolv.conf");
    if found == BTreeSet::from([STUB]) {
        found = read("run/systemd/resolve/resolv.conf");
    }
    found.retain(|address| {
        let is_on_link = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !is_on_link
    });
    found
}

/// The addresses of the lines `nameserver`; one with a zone is a link's.
fn nameservers(text: &str) -> BTreeSet<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then_some(words.next()?.parse().ok()).flatten()
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolvers(stub: &str, behind: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::create_dir_all(root.path().join("run/systemd/resolve")).unwrap();
        fs::write(root.path().join("etc/resolv.conf"), stub).unwrap();
        fs::write(root.path().join("run/systemd/resolve/resolv.conf"), behind).unwrap();
        read(root.path()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn those_of_the_file_that_dockerd_picks_are_read() {
        let behind = "nameserver 192.0.2.53\n";
        assert_eq!(resolvers("# nameserver 192.0.2.1\nnameserver 127.0.0.53\noptions edns0\n", behind), ["192.0.2.53"]);
        let both = "nameserver 127.0.0.53\nnameserver 169.254.169.254 # cloud\n nameserver\t2001:db8::53\nnameserver\n";
        assert_eq!(resolvers(both, behind), ["169.254.169.254", "2001:db8::53"]);
        assert!(
            resolvers("nameserver ::1\nnameserver fe80::1%eth0\nnameserver fe80::2\nnameserver 0.0.0.0\n", behind)
                .is_empty()
        );
        assert!(read(Path::new("/nonexistent")).is_empty());
    }
}
