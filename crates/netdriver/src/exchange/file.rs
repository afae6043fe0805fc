// SPDX-License-Identifier: Apache-2.0
//! The file of hosts: the same on each of them, and read again when it has changed.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ciao_common::store::{ClusterHost, Given};
use ciao_common::types::{HostId, Mtu};

use crate::Driver;
use crate::fabric::{HOST_MTU, check_hosts};

/// A file, and what of it was read last.
pub(super) struct HostsFile {
    path: PathBuf,
    read: Option<(u64, u64, i64, i64)>,
    /// What was recorded last is not all in the kernel.
    is_behind: bool,
}

impl HostsFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: None, is_behind: false }
    }

    /// Records the hosts of the file, if it has changed. `true`: they are others than before.
    pub(super) fn follow(&mut self, driver: &Driver) -> Result<bool> {
        let at = || format!("list of hosts {}", self.path.display());
        let meta = fs::metadata(&self.path).with_context(at)?;
        let seen = (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        if self.read == Some(seen) {
            return Ok(false);
        }
        let hosts =
            fs::read_to_string(&self.path).map_err(Into::into).and_then(|text| parse(&text)).with_context(at)?;
        // It may be written just now.
        ensure!(!hosts.is_empty(), "list of hosts {} is empty", self.path.display());
        self.is_behind |= record(driver, hosts)?;
        if self.is_behind {
            driver.fabric.follow_hosts()?;
        }
        self.read = Some(seen);
        Ok(std::mem::take(&mut self.is_behind))
    }
}

/// Lines `NAME ADDRESS`, each with the MTU of the link if it is not 1500; `#` begins a comment.
///
/// # Errors
/// A line is none, or a name or an address is there twice, or addresses are of two families.
pub(super) fn parse(text: &str) -> Result<Vec<ClusterHost>> {
    let mut hosts = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words: Vec<_> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        hosts.push(host(&words).with_context(|| format!("line {}", number + 1))?);
    }
    check_hosts(&hosts)?;
    Ok(hosts)
}

fn host(words: &[&str]) -> Result<ClusterHost> {
    ensure!((2..=3).contains(&words.len()), "give NAME ADDRESS, or NAME ADDRESS MTU");
    let id: HostId = words[0].parse()?;
    let address: IpAddr = words[1].parse().with_context(|| format!("{:?} is not an address", words[1]))?;
    let mtu = match words.get(2) {
        Some(text) => text.parse().with_context(|| format!("{text:?} is not an MTU"))?,
        None => HOST_MTU,
    };
    Ok(ClusterHost { id, address, mtu: Mtu::try_from(mtu)?, number: 0 })
}

/// Generations count the versions of the file. Who changes it knows better than Docker who belongs to the hosts.
fn record(driver: &Driver, hosts: Vec<ClusterHost>) -> Result<bool> {
    let given = driver.store.write(move |tx| {
        let generation = tx.hosts_state()?.map_or(1, |state| state.generation);
        let given = match tx.give_hosts(generation, &hosts)? {
            Given::Contradicted(_) => tx.give_hosts(generation + 1, &hosts)?,
            given => given,
        };
        if matches!(given, Given::Recorded(_)) {
            tx.clear_gone()?;
        }
        Ok(given)
    })?;
    Ok(matches!(given, Given::Recorded(_)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ciao_common::store::Store;

    use super::*;
    use crate::Config;
    use crate::kernel::fake::Fake;

    #[test]
    fn a_list_is_followed_until_the_kernel_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("ciao.db")).unwrap());
        let kernel = Arc::new(Fake::default());
        kernel.change(|state| state.addresses.push(("192.0.2.0/24".parse().unwrap(), [192, 0, 2, 1].into())));
        let driver = Driver::new(store, kernel.clone(), Config::default()).unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "h1 192.0.2.1\nh2 192.0.2.2\n").unwrap();
        let mut file = HostsFile::new(path);
        kernel.fail_after(Some(0));
        (0..2).for_each(|_| assert!(file.follow(&driver).is_err()));
        kernel.fail_after(None);
        assert!(file.follow(&driver).unwrap());
        assert_eq!(kernel.state().tunnel_hosts.len(), 1);
        assert!(!file.follow(&driver).unwrap(), "nothing is new");
    }

    #[test]
    fn a_line_is_a_host() {
        let hosts = parse("# ours\nh1 192.0.2.1\n\n h2\t192.0.2.2 9000 # rack 2\n").unwrap();
        let shown: Vec<_> =
            hosts.iter().map(|host| format!("{} {} {}", host.id, host.address, host.mtu.bytes())).collect();
        assert_eq!(shown, ["h1 192.0.2.1 1500", "h2 192.0.2.2 9000"]);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, error) in [
            ("h1", "line 1: give NAME ADDRESS"),
            ("h1 192.0.2.1 1500 x", "line 1: give NAME ADDRESS"),
            ("\nh1 192.0.2", "line 2: \"192.0.2\" is not an address"),
            ("h1 192.0.2.1 big", "line 1: \"big\" is not an MTU"),
            ("h1 0.0.0.0", "host h1 has the address 0.0.0.0: give that of its link"),
            ("h/1 192.0.2.1", "line 1: host \"h/1\" may contain only"),
            ("h1 192.0.2.1\nh1 192.0.2.2", "host h1 is given twice"),
            ("h1 192.0.2.1\nH1 192.0.2.2", "host H1 is given twice"),
            ("h1 fe80::1", "host h1 has the address fe80::1, which is good on its link only"),
            ("h1 ::ffff:192.0.2.1", "host h1 has the address ::ffff:192.0.2.1: give 192.0.2.1"),
            ("h1 192.0.2.1\nh2 192.0.2.1", "two hosts have the address 192.0.2.1"),
            ("h1 192.0.2.1\nh2 2001:db8::2", "hosts h1 and h2 have addresses of two families"),
        ] {
            let found = format!("{:#}", parse(text).unwrap_err());
            assert!(found.starts_with(error), "{text:?}: {found}");
        }
    }
}
