// SPDX-License-Identifier: Apache-2.0
//! What ciao needs of the host, read from files alone, so that it may be asked often.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};

use crate::kernel::state::Check;

/// Sets of links and subnets together (docs/compatibility.md).
const OLDEST_KERNEL: (u32, u32) = (5, 6);
/// Where programs are looked for beside `PATH`.
const FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Connections of four tenants that each use up their default share.
const CONNECTIONS: u64 = 65_536;
/// Namespaces, each a tenant or a network without one.
const NAMESPACES: u64 = 128;
/// Each published port is an open file, beside a few hundred others.
const FILES: u64 = 512;

/// Programs that change links which they do not know: their trace while they run, and the hint that ciao's package
/// brings.
const MANAGERS: [(&str, &str, &str, &str); 3] = [
    ("systemd-udevd", "run/udev/control", "systemd/network/70-ciao.link", "links.link"),
    ("systemd-networkd", "run/systemd/netif", "systemd/network/10-ciao.network", "links.network"),
    ("NetworkManager", "run/NetworkManager", "udev/rules.d/70-ciao.rules", "links.rules"),
];
/// Where these hints may be.
const HINTS: [&str; 5] = ["etc", "run", "usr/local/lib", "usr/lib", "lib"];

/// The checks of the host whose root folder this is, with the limits of the calling process.
pub(super) fn checks(root: &Path) -> Vec<Check> {
    let host = Host(root);
    let mut checks = vec![
        host.kernel(),
        host.program("nft", "install nftables 1.0.6 or newer", true),
        host.program("iptables", "install iptables, which dockerd uses, or start dockerd without it", false),
        host.namespaces(),
        host.connections(),
        files(),
    ];
    checks.extend(host.mtu());
    checks.extend(host.managers());
    checks
}

/// As it should be, or else with a remedy.
fn check(check: &'static str, found: impl Into<String>, fine: bool, remedy: &str) -> Check {
    Check { check, found: found.into(), remedy: (!fine).then(|| remedy.to_owned()), blocks: false }
}

/// Published ports, of the daemon's limit: a shell may have another one.
fn files() -> Check {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    check("open files", limit.to_string(), limit >= FILES, "raise LimitNOFILE= of ciao-net.service, or \"ulimit -n\"")
}

struct Host<'a>(&'a Path);

impl Host<'_> {
    fn read(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.0.join(path)).ok()?.trim().to_owned())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    fn kernel(&self) -> Check {
        let release = self.read("proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let (major, minor) = OLDEST_KERNEL;
        let remedy = format!("boot Linux {major}.{minor} or newer");
        Check { blocks: true, ..check("kernel", release, version >= OLDEST_KERNEL, &remedy) }
    }

    fn program(&self, name: &'static str, remedy: &str, blocks: bool) -> Check {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut folders = path.split(':').chain(FOLDERS.split(':')).map(|folder| PathBuf::from(folder).join(name));
        let found = folders.find(|file| self.0.join(file.strip_prefix("/").unwrap_or(file)).exists());
        let text = found.as_ref().map_or_else(|| "missing".to_owned(), |file| file.display().to_string());
        Check { blocks, ..check(name, text, found.is_some(), remedy) }
    }

    fn namespaces(&self) -> Check {
        let limit = self.number("proc/sys/user/max_net_namespaces");
        let remedy = format!("sysctl user.max_net_namespaces={NAMESPACES} or more: one for each tenant and container");
        let fine = limit.is_some_and(|limit| limit >= NAMESPACES);
        check("network namespaces", limit.map_or("missing".to_owned(), |limit| limit.to_string()), fine, &remedy)
    }

    /// The table is there from the first rule on that needs it.
    fn connections(&self) -> Check {
        let limit = self.number("proc/sys/net/netfilter/nf_conntrack_max");
        let found = limit.map_or("not tracked yet".to_owned(), |limit| format!("at most {limit}"));
        let remedy = format!("sysctl net.netfilter.nf_conntrack_max={CONNECTIONS} or more: all tenants share it");
        check("connections", found, limit.is_none_or(|limit| limit >= CONNECTIONS), &remedy)
    }

    /// Of the link with the default route. Smaller than a container's, it costs each connection a probe, or all its
    /// large packets where ICMP is filtered; only networks' options can say that they are made for it, so it is no
    /// problem here.
    fn mtu(&self) -> Option<Check> {
        let routes = self.read("proc/net/route")?;
        let is_default = |line: &&str| line.split_whitespace().nth(1) == Some("00000000");
        let link = routes.lines().skip(1).find(is_default)?.split_whitespace().next()?;
        let mtu = self.number(&format!("sys/class/net/{link}/mtu"))?;
        let hint =
            if mtu < 1500 { format!(": give networks -o com.docker.network.driver.mtu={mtu}") } else { String::new() };
        Some(check("MTU", format!("{link} {mtu}{hint}"), true, ""))
    }

    /// Those that run.
    fn managers(&self) -> Vec<Check> {
        let running = MANAGERS.into_iter().filter(|(_, trace, ..)| self.0.join(trace).exists());
        let one = |(name, _, file, source): (&'static str, _, &str, &str)| {
            let found = HINTS.iter().find(|folder| self.0.join(folder).join(file).exists());
            let text =
                found.map_or("no hint to leave ciao's links alone".to_owned(), |folder| format!("/{folder}/{file}"));
            check(name, text, found.is_some(), &format!("copy deploy/host/{source} to /etc/{file}, and reload it"))
        };
        running.map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that has these files.
    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const GOOD: [(&str, &str); 5] = [
        ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
        ("usr/sbin/nft", ""),
        ("usr/sbin/iptables", ""),
        ("proc/sys/user/max_net_namespaces", "63000\n"),
        ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
    ];

    fn remedies(files: &[(&str, &str)]) -> Vec<&'static str> {
        let wrong = checks(host(files).path()).into_iter().filter(|check| check.remedy.is_some());
        wrong.map(|check| check.check).collect()
    }

    #[test]
    fn a_host_that_has_everything_has_no_problem() {
        assert_eq!(remedies(&GOOD), [""; 0]);
        let host = host(&GOOD);
        let blocking = checks(host.path()).into_iter().filter(|check| check.blocks).map(|check| check.check);
        assert_eq!(blocking.collect::<Vec<_>>(), ["kernel", "nft"]);
    }

    #[test]
    fn what_is_missing_or_too_low_has_a_remedy() {
        for (name, with) in [
            ("kernel", ("proc/sys/kernel/osrelease", "5.4.0-150-generic")),
            ("network namespaces", ("proc/sys/user/max_net_namespaces", "0")),
            ("connections", ("proc/sys/net/netfilter/nf_conntrack_max", "16384")),
            ("systemd-udevd", ("run/udev/control", "")),
            ("systemd-networkd", ("run/systemd/netif/state", "")),
            ("NetworkManager", ("run/NetworkManager/NetworkManager.pid", "")),
        ] {
            let mut files = GOOD.to_vec();
            files.retain(|(path, _)| *path != with.0);
            files.push(with);
            assert_eq!(remedies(&files), [name]);
        }
        let without = |name: &str| GOOD.into_iter().filter(|(path, _)| !path.ends_with(name)).collect::<Vec<_>>();
        assert_eq!(remedies(&without("nft")), ["nft"]);
        assert_eq!(remedies(&without("iptables")), ["iptables"]);
    }

    #[test]
    fn a_manager_with_its_hint_is_fine_and_a_small_mtu_is_shown() {
        let mut files = GOOD.to_vec();
        files.extend([
            ("run/udev/control", ""),
            ("usr/local/lib/systemd/network/70-ciao.link", ""),
            ("run/NetworkManager/x", ""),
            ("usr/lib/udev/rules.d/70-ciao.rules", ""),
            ("proc/net/route", "Iface\tDestination\tGateway\neth0\t000011AC\t0\neth0\t00000000\t010011AC\n"),
            ("sys/class/net/eth0/mtu", "1460\n"),
        ]);
        assert_eq!(remedies(&files), [""; 0]);
        let mtu = checks(host(&files).path()).into_iter().find(|check| check.check == "MTU").unwrap();
        assert_eq!(mtu.found, "eth0 1460: give networks -o com.docker.network.driver.mtu=1460");
    }
}
