// SPDX-License-Identifier: Apache-2.0
//! The running kernel, over netlink, sysfs, `nft` and `iptables`.

mod address;
mod announce;
mod conntrack;
mod datagram;
mod egress;
mod exit;
mod file;
mod firewall;
mod forwarding;
mod link;
mod look;
mod message;
mod mounts;
mod namespace;
mod neighbour;
mod netlink;
mod nexthop;
mod nft;
mod nsid;
mod ping;
mod port;
mod prerequisites;
mod rate;
mod reply;
mod resolvers;
mod sockets;
mod tunnel_entries;
mod uplink;
mod vxlan;
mod watch;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use anyhow::{Context, Result, ensure};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use crate::kernel::{Kernel, Namespace, Namespaces, Ports, Rules};
use crate::names;
use netlink::{Message, Netlink};
use sockets::{Kept, Sockets};

/// The running kernel.
pub struct Linux {
    host: File,
    batch: AtomicU32,
    sockets: Arc<Sockets>,
    listings: nft::Listings,
    guard: nft::Guard,
}

impl Linux {
    /// The kernel, seen from the process's network namespace, which is the host's.
    pub fn new() -> Result<Self> {
        Ok(Self {
            host: namespace::of_host()?,
            batch: AtomicU32::new(0),
            sockets: Sockets::new(sockets::QUIET)?,
            listings: nft::Listings::default(),
            guard: nft::Guard::default(),
        })
    }

    /// Checks that network namespaces created by this process outlive it.
    ///
    /// # Errors
    /// The host does not see what this process mounts below /run/netns.
    pub fn check_mounts(&self) -> Result<()> {
        mounts::check()
    }

    /// A socket in a namespace (`None`: the host's); `None`: the namespace does not exist.
    fn socket<M: Message>(&self, namespace: Option<&str>) -> Result<Option<Kept<M>>> {
        let Some(name) = namespace else {
            return self.sockets.take(namespace::place(&self.host.metadata()?), Netlink::open).map(Some);
        };
        let Some(file) = namespace::open(name)? else { return Ok(None) };
        let place = namespace::place(&file.metadata()?);
        self.sockets.take(place, || namespace::enter(&file, &self.host, Netlink::open)).map(Some)
    }

    /// A netlink socket in a namespace; `None`: it does not exist.
    fn netlink(&self, namespace: Option<&str>) -> Result<Option<Kept<RouteNetlinkMessage>>> {
        self.socket(namespace)
    }

    /// A netlink socket in a namespace that must exist.
    fn required(&self, namespace: Option<&str>) -> Result<Kept<RouteNetlinkMessage>> {
        self.socket(namespace)?.with_context(|| missing(namespace))
    }

    /// A netfilter socket in a namespace that must exist.
    fn netfilter(&self, namespace: &Namespace) -> Result<Kept<NetfilterMessage>> {
        self.socket(namespace.name())?.with_context(|| missing(namespace.name()))
    }

    /// Runs `action` with the calling thread in a namespace that must exist.
    fn within<T>(&self, namespace: Option<&str>, action: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(name) = namespace else { return action() };
        let file = namespace::open(name)?.with_context(|| missing(namespace))?;
        namespace::enter(&file, &self.host, action)
    }

    /// Whether ciao-net made a namespace: it has the mark, or the rules of an older version.
    fn is_ours(&self, name: &str, file: &File) -> Result<bool> {
        Ok(namespace::enter(file, &self.host, namespace::is_marked)?
            || self.has_rules(&Namespace::Named(name.to_owned()))?)
    }
}

fn missing(namespace: Option<&str>) -> String {
    format!("network namespace {} does not exist", namespace.unwrap_or("of the host"))
}

impl Namespaces for Linux {
    fn ensure_namespace(&self, name: &str) -> Result<bool> {
        if let Some(file) = namespace::open(name)? {
            ensure!(
                self.is_ours(name, &file)?,
                "network namespace {name} was not created by ciao-net: delete it (ip netns delete {name}), or give another \
                 tenant"
            );
            let configure = || namespace::mark().and_then(|()| namespace::apply_settings());
            return namespace::enter(&file, &self.host, configure).map(|()| false);
        }
        namespace::create(name)?;
        // Its changes are reported from now on, and not only when a link leads to it.
        if let Some(file) = namespace::open(name)? {
            nsid::identify(&mut Netlink::open()?, &file)?;
        }
        Ok(true)
    }

    fn has_namespace(&self, name: &str) -> Result<bool> {
        namespace::open(name)?.map_or(Ok(false), |file| self.is_ours(name, &file))
    }

    fn delete_namespace(&self, name: &str) -> Result<()> {
        let file = namespace::open(name)?;
        if let Some(file) = &file
            && !self.is_ours(name, file)?
        {
            log::warn!("network namespace {name} was not created by ciao-net: left unchanged");
            return Ok(());
        }
        namespace::delete(name)?;
        if let Some(file) = file {
            self.sockets.close(namespace::place(&file.metadata()?));
        }
        Ok(())
    }

    fn namespaces(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for name in namespace::list(&names::NAMESPACE_PREFIXES)? {
            let is_ours =
                namespace::open(&name).and_then(|file| file.map_or(Ok(false), |file| self.is_ours(&name, &file)));
            match is_ours {
                Ok(false) => {}
                Ok(true) => found.push(name),
                // It is a namespace of another kind.
                Err(error) if error.root_cause().downcast_ref() == Some(&Errno::EINVAL) => {}
                Err(error) => {
                    log::warn!("network namespace {name} cannot be read, and may be a tenant's: {error:#}");
                    found.push(name);
                }
            }
        }
        Ok(found)
    }
}

impl Ports for Linux {}

impl Kernel for Linux {}
