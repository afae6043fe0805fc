// SPDX-License-Identifier: Apache-2.0
//! Network namespaces with names: `/run/netns/NAME`, as `ip netns` keeps them, so that an administrator can look in.
//!
//! A namespace is a bind mount of a thread's `/proc/thread-self/ns/net`. Entering one moves the calling thread alone;
//! leaving it again is not optional, because the thread belongs to a pool.

use std::fs::{self, File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, statfs};

use super::file::existing;
use super::message::{self, Link};
use super::netlink::Netlink;
use super::sockets::NamespaceFile;

pub(super) const FOLDER: &str = "/run/netns";
/// `NSFS_MAGIC` of linux/magic.h: the file is a namespace and not the empty file that a crash left.
const NSFS: FsType = FsType(0x6e73_6673);

/// The namespace of the process: the host's.
pub(super) fn of_host() -> Result<File> {
    File::open("/proc/self/ns/net").context("open the host's network namespace")
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// A named namespace; `None` if there is none.
pub(super) fn open(name: &str) -> Result<Option<File>> {
    let path = path(name);
    if !is_namespace(&path) {
        return Ok(None);
    }
    File::open(&path).map(Some).with_context(|| format!("open network namespace {name}"))
}

/// Which namespace a file is.
pub(super) fn place(file: &Metadata) -> NamespaceFile {
    (file.dev(), file.ino())
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == NSFS)
}

/// The alias of `lo` in a namespace that ciao-net made, which shows that to ciao-net and to administrators: a name may
/// be anybody's.
const MARK: &str = "ciao-net";

/// Whether the calling thread's namespace has ciao-net's mark.
pub(super) fn is_marked() -> Result<bool> {
    Ok(lo(&mut Netlink::open()?)?.alias.as_deref() == Some(MARK))
}

/// Gives the calling thread's namespace ciao-net's mark.
pub(super) fn mark() -> Result<()> {
    let mut netlink = Netlink::open()?;
    let lo = lo(&mut netlink)?;
    let marked = lo.alias.as_deref() == Some(MARK);
    if marked {
        Ok(())
    } else {
        netlink.execute(message::set_alias(lo.index, MARK), 0).context("mark a network namespace")
    }
}

fn lo(netlink: &mut Netlink) -> Result<Link> {
    netlink.required(&"lo".parse()?)
}

/// The names that begin with one of `prefixes`.
pub(super) fn list(prefixes: &[&str]) -> Result<Vec<String>> {
    let entries = existing(fs::read_dir(FOLDER)).with_context(|| format!("read {FOLDER}"))?;
    let names = entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).collect())
}

/// Makes a namespace that is up (`lo`) and routes between its links.
pub(super) fn create(name: &str) -> Result<()> {
    prepare_folder()?;
    let path = path(name);
    // An empty file is what a crash between these lines left.
    fs::write(&path, "").with_context(|| format!("create {}", path.display()))?;
    let made = in_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("create a network namespace")?;
        configure().context("configure a new network namespace")?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("name a network namespace {}", path.display()))
    });
    if made.is_err() {
        delete(name)?;
    }
    made
}

/// Removes a namespace's name; the kernel deletes it with all its links when no process is in it.
pub(super) fn delete(name: &str) -> Result<()> {
    let path = path(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => return Err(error).with_context(|| format!("unmount {}", path.display())),
    }
    existing(fs::remove_file(&path)).map(drop).with_context(|| format!("remove {}", path.display()))
}

/// Runs `action` with the calling thread in `namespace`, and takes the thread back however it ends.
pub(super) fn enter<T>(namespace: &File, host: &File, action: impl FnOnce() -> Result<T>) -> Result<T> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
    scopeguard::defer! {
        if let Err(error) = setns(host.as_fd(), CloneFlags::CLONE_NEWNET) {
            // This thread would go on making tenants' links in the wrong place.
            log::error!("leave a network namespace: {error}: aborting");
            std::process::abort();
        }
    }
    action()
}

/// Mounts made in the folder must reach every mount namespace that has it, as `ip netns` takes care of too.
fn prepare_folder() -> Result<()> {
    fs::create_dir_all(FOLDER).with_context(|| format!("create folder {FOLDER}"))?;
    let share = || mount(None::<&str>, FOLDER, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share() == Err(Errno::EINVAL) {
        // Not a mount point yet.
        mount(Some(FOLDER), FOLDER, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .with_context(|| format!("mount {FOLDER}"))?;
        share().with_context(|| format!("share {FOLDER}"))?;
    }
    Ok(())
}

/// What a tenant's namespace needs: routing between its subnets, IPv6 whatever the host's is, and frames between ports
/// of a bridge not sent through the firewall for IP packets, which costs time and is br_netfilter's default in every
/// namespace.
const SETTINGS: [(&str, &str); 7] = [
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv6.conf.all.disable_ipv6", "0"),
    ("net.ipv6.conf.default.disable_ipv6", "0"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.bridge.bridge-nf-call-iptables", "0"),
    ("net.bridge.bridge-nf-call-ip6tables", "0"),
    ("net.bridge.bridge-nf-call-arptables", "0"),
];

/// Where a setting is, by its name as of sysctl(8).
pub(super) fn setting(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

/// Those of [`SETTINGS`] that are otherwise in the calling thread's namespace. A kernel without IPv6, or without
/// br_netfilter, does not have them all.
pub(super) fn wrong_settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS
        .into_iter()
        .filter(|(name, value)| fs::read_to_string(setting(name)).is_ok_and(|found| found.trim() != *value))
}

/// Applies [`SETTINGS`] to the calling thread's namespace. br_netfilter may be loaded long after a namespace was made.
pub(super) fn apply_settings() -> Result<()> {
    for (name, value) in wrong_settings() {
        fs::write(setting(name), value).with_context(|| format!("set {name} to {value}"))?;
    }
    Ok(())
}

/// Of the calling thread's new namespace: settings, and `lo`.
fn configure() -> Result<()> {
    apply_settings()?;
    mark()?;
    let mut netlink = Netlink::open()?;
    let lo = lo(&mut netlink)?;
    netlink.execute(message::set_up(lo.index), 0).context("set lo up")
}

/// Runs `action` on a thread of its own, which ends with it.
pub(super) fn in_thread<T: Send + 'static>(action: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let thread = std::thread::Builder::new().name("namespace".into()).spawn(action).context("start a thread")?;
    thread.join().map_err(|_| anyhow!("internal error (please report): a thread panicked, see the log"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_a_namespace_does_not_leave_the_thread_there() {
        let here = || fs::read_link("/proc/thread-self/ns/net").unwrap();
        let (host, before) = (of_host().unwrap(), here());
        let other = in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (the test needs root)")?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        });
        let other = other.unwrap();
        let mut seen = None;
        let inside = std::panic::AssertUnwindSafe(|| {
            enter(&other, &host, || -> Result<()> {
                seen = Some(here());
                panic!("expected by the test")
            })
        });
        assert!(std::panic::catch_unwind(inside).is_err());
        assert!(seen.is_some_and(|seen| seen != before));
        assert_eq!(here(), before);
    }
}
