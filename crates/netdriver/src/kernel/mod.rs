// SPDX-License-Identifier: Apache-2.0
//! The operations on Linux that the driver uses, a trait a subject; [`linux`] is the running kernel, `fake` a double for
//! tests.
//!
//! A tenant is a network namespace. Its bridges, the host ends of its VNICs and its gateway addresses live there; only
//! the container's end of a VNIC is in the host's namespace, until Docker moves it. So neither the host's firewall nor
//! another tenant's addresses affect a tenant.
//!
//! Each operation makes or removes a whole thing, or leaves nothing behind. An error is the kernel's, or that of the
//! command that was run, with the link, address or namespace it is about.

pub mod element;
#[cfg(any(test, feature = "fake-kernel"))]
pub mod fake;
mod host_setting;
pub mod linux;
mod namespace;
mod port;
pub mod state;

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use ciao_common::types::{Family, LinkName, MacAddr, Mtu, Rate, Subnet};

use element::{Change, Element, Ruleset};
pub use host_setting::{HostChange, HostSetting, HostSettings};
pub use namespace::Namespace;
pub use port::{HeldPort, Ports};
use state::{Seen, Watch};

/// A veth pair: one end for a container, in the host's namespace; the other on a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth {
    /// Where the bridge is.
    pub namespace: Namespace,
    /// What the host end is a port of.
    pub bridge: LinkName,
    /// The end on the bridge.
    pub host_link: LinkName,
    /// The container's end.
    pub container_link: LinkName,
    /// Of the container's end.
    pub mac: MacAddr,
    /// The container's own addresses, permanent neighbours of the bridge.
    pub addresses: Vec<IpAddr>,
    /// Whether the bridge learns MAC addresses at this port, and sends there what it has no port for. Otherwise the
    /// container's is all it has.
    pub learns: bool,
    /// Of both ends, in bytes; `None`: the kernel's default.
    pub mtu: Option<Mtu>,
    /// How fast frames go to the container.
    pub rate: Option<Rate>,
}

/// A namespace's uplink: a veth pair, the host's end in the host's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkPair {
    /// Whose.
    pub namespace: String,
    /// The host's end.
    pub host_link: LinkName,
    /// The namespace's end.
    pub inner_link: LinkName,
    /// Subnets of two addresses, the host's first: IPv4 (/31), and IPv6 (/127) if a network there has it.
    pub pairs: Vec<Subnet>,
}

impl UplinkPair {
    /// The addresses of the host's end and of the namespace's, pair by pair.
    pub fn ends(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        self.pairs.iter().map(|pair| {
            let (family, range) = (pair.family(), pair.range());
            (family.address(range.first), family.address(range.last))
        })
    }
}

/// What the host's firewall is to accept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FirewallOpening {
    /// Frames between ports of an existing bridge of the host.
    Bridge(LinkName),
    /// What comes from and goes to tenants' uplinks; ciao's own table says what of it may.
    Uplinks,
}

/// What stands under a name in the host's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostLink {
    /// Nothing.
    Absent,
    /// A bridge.
    Bridge,
    /// Some other link.
    Other,
}

/// Where a VNIC's container end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLocation {
    /// In the host's namespace, with this MAC address: no container has it.
    Host(Option<MacAddr>),
    /// In another namespace: a container has it.
    Container,
    /// The pair does not exist.
    Absent,
}

/// Tenants' network namespaces.
pub trait Namespaces {
    /// Makes a namespace that routes between its links, if it is not there. `true`: made.
    fn ensure_namespace(&self, name: &str) -> Result<bool>;

    /// Whether a namespace exists.
    fn has_namespace(&self, name: &str) -> Result<bool>;

    /// Removes a namespace with all that is in it. Absent: nothing to do.
    fn delete_namespace(&self, name: &str) -> Result<()>;

    /// The namespaces that ciao-net made.
    fn namespaces(&self) -> Result<Vec<String>>;
}

/// Bridges, VNICs and their addresses.
pub trait Links {
    /// What has this name in the host's namespace.
    fn host_link(&self, name: &LinkName) -> Result<HostLink>;

    /// The names of all links in a namespace.
    fn links(&self, namespace: &Namespace) -> Result<Vec<LinkName>>;

    /// Removes a link and, if it is a veth, its peer. Absent: nothing to do.
    fn delete_link(&self, namespace: &Namespace, link: &LinkName) -> Result<()>;

    /// Makes a bridge that is up in a named namespace, if it is not there. `true`: made.
    fn ensure_bridge(&self, namespace: &str, bridge: &LinkName, mtu: Option<Mtu>) -> Result<bool>;

    /// Whether a link is a bridge as [`Self::ensure_bridge`] makes it, and not one of an administrator or a router.
    fn is_own_bridge(&self, namespace: &str, link: &LinkName) -> Result<bool>;

    /// The addresses of every link of a namespace, without IPv6 link-local ones.
    fn addresses(&self, namespace: &str) -> Result<Vec<(LinkName, Subnet, IpAddr)>>;

    /// Adds a gateway's address to a bridge. There already: nothing to do.
    fn add_address(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<()>;

    /// Removes a gateway's address from a bridge. Absent: nothing to do.
    fn remove_address(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<()>;

    /// Makes a VNIC's pair: the container's end in the host's namespace and down, the other up and on its bridge.
    fn create_veth(&self, veth: &Veth) -> Result<()>;

    /// Makes the host end of a VNIC, if it exists, a port of its bridge again, up and with its static entries.
    fn attach(&self, veth: &Veth) -> Result<()>;

    /// Sets a link of a named namespace up.
    fn set_up(&self, namespace: &str, link: &LinkName) -> Result<()>;

    /// Sets links down. Absent ones are no error; all are tried before an error is returned.
    fn set_down(&self, namespace: &Namespace, links: &[LinkName]) -> Result<()>;

    /// Removes the pairs of many VNICs in one go. Absent pairs are no error; all are tried before an error is returned.
    fn delete_veths(&self, veths: &[Veth]) -> Result<()>;

    /// Announces to all ports of a bridge which MAC addresses IP addresses have. No such bridge: nothing to do.
    fn announce(&self, namespace: &str, bridge: &LinkName, entries: &[(IpAddr, MacAddr)]) -> Result<()>;

    /// Removes permanent neighbours of a bridge. Absent ones are no error.
    fn forget_neighbours(&self, namespace: &str, bridge: &LinkName, addresses: &[IpAddr]) -> Result<()>;

    /// Where a VNIC's container end is.
    fn locate(&self, veth: &Veth) -> Result<LinkLocation>;

    /// The index and the MAC address of a link in the host's namespace, without waiting for the RTNL lock; `None` if it
    /// is absent, or cannot be read so.
    fn peek(&self, name: &LinkName) -> Option<(u32, MacAddr)>;

    /// Whether the link with an index from [`Self::peek`] is still in the host's namespace under this name, in a
    /// microsecond and without the RTNL lock.
    fn is_same_link(&self, index: u32, name: &LinkName) -> bool;
}

/// Namespaces' uplinks to the host.
pub trait Uplinks {
    /// Makes a namespace's uplink: a pair of links with addresses, the namespace's default routes, and forwarding on the
    /// host. There already: nothing to do. `true`: made.
    fn ensure_uplink(&self, uplink: &UplinkPair) -> Result<bool>;

    /// Routes an IPv6 subnet of a namespace from the host to it. Routed there already: nothing to do.
    fn route_to_uplink(&self, uplink: &UplinkPair, subnet: Subnet) -> Result<()>;

    /// Removes the route of [`Self::route_to_uplink`]. Absent: nothing to do.
    fn unroute_from_uplink(&self, uplink: &UplinkPair, subnet: Subnet) -> Result<()>;

    /// The bridges of the host's namespace by which traffic leaves the host.
    fn egress_bridges(&self) -> Result<Vec<LinkName>>;

    /// The addresses of the host's own links, and the subnets that they are in.
    fn host_addresses(&self) -> Result<Vec<(Subnet, IpAddr)>>;
}

/// nftables.
pub trait Rules {
    /// Runs a script of nft in a namespace, all of it or nothing.
    fn run_nft(&self, namespace: &Namespace, script: &str) -> Result<()>;

    /// Replaces ciao's tables in a namespace, all of them or nothing. Returns the generation afterwards, as of
    /// [`Self::rules_generation`], unless somebody else changed rules at the same time.
    fn load_rules(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<u32>>;

    /// How ciao's tables in a namespace differ from what [`Self::load_rules`] loads; `None`: not at all.
    fn rules_difference(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<String>>;

    /// Changes elements of ciao's tables in a namespace, all of them or none. It is an error to delete an element that is
    /// absent, and to add one that is there with another value. Returns the generation afterwards.
    fn change_elements(&self, namespace: &Namespace, elements: &[Element], change: Change) -> Result<Option<u32>>;

    /// Whether ciao's tables exist in a namespace.
    fn has_rules(&self, namespace: &Namespace) -> Result<bool>;

    /// A number that grows by one with every change of a namespace's rules; `None` where some of them are legacy iptables,
    /// which count no changes.
    fn rules_generation(&self, namespace: &Namespace) -> Result<Option<u32>>;

    /// All rules of a namespace, as nft lists them.
    fn list_rules(&self, namespace: &Namespace) -> Result<String>;

    /// Removes tracked connections in a namespace. None: nothing to do.
    fn forget_flows(&self, namespace: &Namespace, flows: &Flows) -> Result<()>;
}

/// Tracked connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flows {
    /// To ports at addresses.
    To {
        /// Those that a client sends to.
        addresses: BTreeSet<IpAddr>,
        /// Protocol and port.
        ports: BTreeSet<(u8, u16)>,
    },
    /// From these addresses, or to a published port that is forwarded to one of them.
    Of(BTreeSet<IpAddr>),
}

/// The host's own firewall.
pub trait Firewall {
    /// Makes the host's firewall accept `openings`, after every rule of others, and nothing else of ciao's. Where its chain
    /// FORWARD was loaded again, the policies of `drop` are DROP again. Returns a rule of that chain that comes before
    /// and that nothing passes.
    fn open_firewall(&self, openings: &BTreeSet<FirewallOpening>, drop: &[Family]) -> Result<Option<String>>;

    /// Whether its chain FORWARD has rules of others.
    fn is_firewall_used(&self, family: Family) -> Result<bool>;
}

/// A second copy of the host's filter that a flush of the host's rules does not remove. It lasts as long as this process.
pub trait HostGuard {
    /// Makes or replaces the copy: chains and sets in nft's language, and elements of the sets. An error of a kernel or an
    /// nft that has no tables with owners, too.
    fn guard_host(&self, filter: &str, elements: &[Element]) -> Result<()>;

    /// Whether there is a copy.
    fn is_host_guarded(&self) -> bool;

    /// Removes the copy.
    fn unguard_host(&self);
}

/// What exists, and what changes.
pub trait Inspection {
    /// What exists in a namespace; `None`: the namespace does not.
    fn look(&self, namespace: &Namespace) -> Result<Option<Seen>>;

    /// Subscribes to reports of changes, in the host's namespace and all of ciao's.
    fn watch(&self) -> Result<Box<dyn Watch>>;
}

/// All of it.
pub trait Kernel:
    Namespaces + Links + Uplinks + Rules + Firewall + HostGuard + HostSettings + Inspection + Ports + Send + Sync + 'static
{
}

impl<T> Kernel for T where
    T: Namespaces
        + Links
        + Uplinks
        + Rules
        + Firewall
        + HostGuard
        + HostSettings
        + Inspection
        + Ports
        + Send
        + Sync
        + 'static
{
}
