//! What the driver wants of Linux: a trait with just the operations used, its netlink, and a double for tests.
//!
//! A tenant is a network namespace. Its bridges, the host ends of its VNICs and its gateway addresses live there; only
//! the container's end of a VNIC is in the host's namespace, until Docker takes it. So nothing of the host's firewall
//! and no other tenant's address touches a tenant.

pub mod element;
mod linux;
pub(crate) mod ports;

#[cfg(any(test, feature = "fake-kernel"))]
pub mod fake;

use std::fmt;
use std::net::IpAddr;

use anyhow::Result;
use ciao_common::types::{LinkName, MacAddr, Mtu, Rate, Subnet};

use element::{Change, Element};
pub use linux::Linux;

/// Where a link is: a tenant's network namespace (`/run/netns/NAME`), or the host's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespace {
    /// The one that the daemon and dockerd run in.
    Host,
    /// One that ciao-net made.
    Named(String),
}

impl Namespace {
    /// From the store's column, where NULL is the host's.
    #[must_use]
    pub fn of(column: Option<&str>) -> Self {
        column.map_or(Self::Host, |name| Self::Named(name.to_owned()))
    }

    /// As the store's column.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Host => None,
            Self::Named(name) => Some(name),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("(host)"))
    }
}

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

/// A namespace's way to the host: a veth pair, the host's end in the host's namespace.
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

/// What the host's firewall is to let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
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
pub enum Place {
    /// In the host's namespace, with this MAC address: no container has it.
    Host(Option<MacAddr>),
    /// In some other namespace: a container has it.
    Container,
    /// Nowhere: the pair is gone.
    Gone,
}

/// The operations. Each makes or removes a whole thing, or leaves nothing behind.
pub trait Kernel: Send + Sync + 'static {
    /// Makes a namespace that routes between its links, if it is not there. `true`: made.
    ///
    /// # Errors
    /// The kernel's.
    fn ensure_namespace(&self, name: &str) -> Result<bool>;

    /// Whether a namespace is there.
    ///
    /// # Errors
    /// The kernel's.
    fn has_namespace(&self, name: &str) -> Result<bool>;

    /// Removes a namespace with all that is in it. Not there: nothing to do.
    ///
    /// # Errors
    /// The kernel's.
    fn delete_namespace(&self, name: &str) -> Result<()>;

    /// The namespaces that ciao-net made.
    ///
    /// # Errors
    /// The kernel's.
    fn namespaces(&self) -> Result<Vec<String>>;

    /// What stands under a name in the host's namespace.
    ///
    /// # Errors
    /// The kernel's.
    fn host_link(&self, name: &LinkName) -> Result<HostLink>;

    /// Makes a bridge that is up in a named namespace, if it is not there. `true`: made.
    ///
    /// # Errors
    /// The kernel's; another kind of link has the name.
    fn ensure_bridge(&self, namespace: &str, bridge: &LinkName, mtu: Option<Mtu>) -> Result<bool>;

    /// Whether a link is a bridge as [`Self::ensure_bridge`] makes it. What an administrator or a router puts beside it is
    /// not.
    ///
    /// # Errors
    /// The kernel's.
    fn is_own_bridge(&self, namespace: &str, link: &LinkName) -> Result<bool>;

    /// Removes a link and, if it is a veth, its peer. Not there: nothing to do.
    ///
    /// # Errors
    /// The kernel's.
    fn delete_link(&self, namespace: &Namespace, link: &LinkName) -> Result<()>;

    /// Gives a bridge a gateway's address. There already: nothing to do.
    ///
    /// # Errors
    /// The kernel's.
    fn add_address(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<()>;

    /// Takes a gateway's address from a bridge. Not there: nothing to do.
    ///
    /// # Errors
    /// The kernel's.
    fn remove_address(&self, namespace: &str, bridge: &LinkName, subnet: Subnet, address: IpAddr) -> Result<()>;

    /// Makes a VNIC's pair: the container's end in the host's namespace and down, the other up and on its bridge.
    ///
    /// # Errors
    /// The kernel's; no such bridge or namespace, a name that is taken.
    fn create_veth(&self, veth: &Veth) -> Result<()>;

    /// Makes the host end of a VNIC, if it is there, a port of its bridge again, up and with all that the bridge knows of
    /// it.
    ///
    /// # Errors
    /// The kernel's.
    fn attach(&self, veth: &Veth) -> Result<()>;

    /// The addresses of every link of a namespace, link-local IPv6 ones left out.
    ///
    /// # Errors
    /// The kernel's.
    fn addresses(&self, namespace: &str) -> Result<Vec<(LinkName, Subnet, IpAddr)>>;

    /// Removes the pairs of many VNICs in one go. Pairs that are gone are no error.
    ///
    /// # Errors
    /// The kernel's, after all were tried.
    fn delete_veths(&self, veths: &[Veth]) -> Result<()>;

    /// Removes permanent neighbours of a bridge. Those that are gone are no error.
    ///
    /// # Errors
    /// The kernel's.
    fn forget_neighbours(&self, namespace: &str, bridge: &LinkName, addresses: &[IpAddr]) -> Result<()>;

    /// Where a VNIC's container end is.
    ///
    /// # Errors
    /// The kernel's.
    fn place(&self, veth: &Veth) -> Result<Place>;

    /// The index and the MAC address of a link in the host's namespace, told without waiting for whoever changes links;
    /// `None` if it is not there, or if that cannot be told so.
    fn peek(&self, name: &LinkName) -> Option<(u32, MacAddr)>;

    /// Whether the link of an index that [`Self::peek`] told is in the host's namespace under this name still, told
    /// without waiting too, in a microsecond.
    fn is_still(&self, index: u32, name: &LinkName) -> bool;

    /// The bridges of the host's namespace that lead out of the host.
    ///
    /// # Errors
    /// The kernel's.
    fn bridges_leading_out(&self) -> Result<Vec<LinkName>>;

    /// The names of all links in a namespace.
    ///
    /// # Errors
    /// The kernel's.
    fn links(&self, namespace: &Namespace) -> Result<Vec<LinkName>>;

    /// Makes a namespace's way to the host: a pair of links with addresses, the namespace's default routes, and
    /// forwarding on the host. There already: nothing to do. `true`: made.
    ///
    /// # Errors
    /// The kernel's.
    fn ensure_uplink(&self, uplink: &UplinkPair) -> Result<bool>;

    /// Leads an IPv6 subnet of a namespace from the host to it. Led there already: nothing to do.
    ///
    /// # Errors
    /// The kernel's; the host leads it elsewhere.
    fn route_to_uplink(&self, uplink: &UplinkPair, subnet: Subnet) -> Result<()>;

    /// Takes back what [`Self::route_to_uplink`] did. Taken back already: nothing to do.
    ///
    /// # Errors
    /// The kernel's.
    fn unroute_from_uplink(&self, uplink: &UplinkPair, subnet: Subnet) -> Result<()>;

    /// The addresses of the host's own links, and the subnets that they are in.
    ///
    /// # Errors
    /// The kernel's.
    fn host_addresses(&self) -> Result<Vec<(Subnet, IpAddr)>>;

    /// Runs a script of nft in a namespace, all of it or nothing.
    ///
    /// # Errors
    /// The script's; no such namespace; no nft.
    fn run_nft(&self, namespace: &Namespace, script: &str) -> Result<()>;

    /// Changes elements of ciao's tables in a namespace, all of them or none.
    ///
    /// # Errors
    /// No such namespace, table or set; one that is to be deleted is not there, one that is to be added leads elsewhere.
    fn change_elements(&self, namespace: &Namespace, elements: &[Element], change: Change) -> Result<()>;

    /// Whether ciao's table of rules stands in a namespace.
    ///
    /// # Errors
    /// No nft.
    fn has_rules(&self, namespace: &Namespace) -> Result<bool>;

    /// A number that changes with every change of the host's rules; `None` where some of them are of the older
    /// iptables, whose changes nobody counts.
    ///
    /// # Errors
    /// The kernel's.
    fn rules_generation(&self) -> Result<Option<u32>>;

    /// All rules of a namespace, as nft shows them.
    ///
    /// # Errors
    /// No such namespace; no nft.
    fn list_rules(&self, namespace: &Namespace) -> Result<String>;

    /// Lets traffic pass the FORWARD policy of the host's firewall. Lets it already: nothing to do.
    ///
    /// # Errors
    /// The firewall's.
    fn open_firewall(&self, passage: &Passage) -> Result<()>;

    /// Takes that back. Not there: nothing to do.
    ///
    /// # Errors
    /// The firewall's.
    fn close_firewall(&self, passage: &Passage) -> Result<()>;
}
