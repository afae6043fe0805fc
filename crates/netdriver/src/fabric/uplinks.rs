//! Tenants' ways to the host: which addresses they have, when they are made, and when they go.
//!
//! Each namespace with a network of `egress=nat` has one veth pair to the host, with two addresses of its own from a pool
//! (link-local unless configured) and, for IPv6, of a ULA prefix. Whatever addresses two tenants share, on the host they
//! are told apart by their uplinks'.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ciao_common::store::{Egress, Network, Uplink};
use ciao_common::types::{LinkName, Subnet, VnicId};

use crate::fabric::Fabric;
use crate::kernel::element::{Change, Element};
use crate::kernel::{Namespace, UplinkPair};
use crate::names;
use crate::rules::{self, Tenant};

impl Fabric {
    /// Writes a namespace's whole ruleset from the records.
    pub(crate) fn load_rules(&self, namespace: &str) -> Result<()> {
        let _lock = self.lock_rules(Some(namespace));
        self.write_rules(namespace)
    }

    fn write_rules(&self, namespace: &str) -> Result<()> {
        // A new VNIC's elements may stand before its record does.
        self.store.settle()?;
        let (networks, vnics, ports) = self.store.read(|tx| {
            let ports = tx.ports()?.into_iter().filter(|port| port.namespace == namespace).collect::<Vec<_>>();
            Ok((tx.networks_in_namespace(namespace)?, tx.vnics_in_namespace(namespace)?, ports))
        })?;
        let script = Tenant { networks: &networks, vnics: &vnics, ports: &ports }.script();
        self.kernel.run_nft(&Namespace::Named(namespace.to_owned()), &script).context("load a tenant's rules")
    }

    /// Changes elements of a namespace's rules. Where one is not as expected, after a crash or somebody's own change,
    /// all are written anew from the records.
    pub(crate) fn change_rules(&self, namespace: &str, elements: &[Element], change: Change) -> Result<()> {
        let _lock = self.lock_rules(Some(namespace));
        let changed = self.kernel.change_elements(&Namespace::Named(namespace.to_owned()), elements, change);
        changed.or_else(|error| {
            log::info!("rules of {namespace} differ from the records ({error:#}): written anew");
            self.write_rules(namespace)
        })
    }

    /// Makes a network's way out. The caller has the namespace's lock.
    pub(crate) fn ensure_uplink(&self, namespace: &str, network: &Network) -> Result<()> {
        let uplink = self.uplink_of(namespace)?;
        let networks = self.store.read(|tx| tx.networks_in_namespace(namespace))?;
        let v6 = networks.iter().flat_map(|network| &network.subnets).any(|subnet| subnet.subnet.network().is_ipv6());
        let pair = self.pair(&uplink, v6)?;
        self.ensure_host_rules()?;
        self.kernel.ensure_uplink(&pair)?;
        rules::routed6(network).try_for_each(|subnet| self.kernel.route_to_uplink(&pair, subnet))
    }

    /// Lets a network's traffic pass as its options say. The caller has the namespace's lock.
    pub(crate) fn open_network(&self, network: &Network) -> Result<()> {
        let Some(namespace) = network.namespace.as_deref() else { return Ok(()) };
        if network.secured && network.icc {
            self.change_rules(namespace, &rules::network_elements(network), Change::Add)
                .context("let a network pass")?;
        } else {
            // What VNICs on its bridge may do changes too.
            self.load_rules(namespace)?;
            self.attach_all(namespace, &network.bridge)?;
        }
        let outside = rules::host_elements(network);
        if outside.is_empty() {
            return Ok(());
        }
        self.change_host_rules(&outside, Change::Add).context("let IPv6 out with its own addresses")
    }

    /// Takes back what [`Self::open_network`] did, when the network's record is gone.
    pub(crate) fn close_network(&self, namespace: &str, gone: &Network) -> Result<()> {
        if self.kernel.has_namespace(namespace)? {
            let left = self.store.read(|tx| tx.networks_on_bridge(Some(namespace), &gone.bridge))?;
            if !left.is_empty() || !gone.secured || !gone.icc {
                self.load_rules(namespace)?;
                self.attach_all(namespace, &gone.bridge)?;
            } else {
                self.change_rules(namespace, &rules::network_elements(gone), Change::Delete)?;
            }
        }
        self.close_routed6(namespace, gone)
    }

    /// The IPv6 subnets of a network that is gone are not led to its namespace any more, unless another one there has
    /// them.
    fn close_routed6(&self, namespace: &str, gone: &Network) -> Result<()> {
        let (left, uplink) = self.store.read(|tx| Ok((tx.networks_in_namespace(namespace)?, tx.uplink(namespace)?)))?;
        let kept: Vec<_> = left.iter().flat_map(rules::routed6).collect();
        let subnets: Vec<_> = rules::routed6(gone).filter(|subnet| !kept.contains(subnet)).collect();
        if subnets.is_empty() {
            return Ok(());
        }
        if self.kernel.has_rules(&Namespace::Host)? {
            let elements: Vec<_> = subnets.iter().copied().map(rules::routed6_element).collect();
            self.change_host_rules(&elements, Change::Delete)?;
        }
        let Some(uplink) = uplink else { return Ok(()) };
        let pair = self.pair(&uplink, true)?;
        subnets.into_iter().try_for_each(|subnet| self.kernel.unroute_from_uplink(&pair, subnet))
    }

    /// With IPv6 only where a network has it: the host must forward IPv6 then, and listens to no router any more.
    fn pair(&self, uplink: &Uplink, v6: bool) -> Result<UplinkPair> {
        let mut pairs = self.pools.pairs(uplink.number)?.to_vec();
        pairs.retain(|pair| v6 || pair.network().is_ipv4());
        Ok(UplinkPair {
            namespace: uplink.namespace.clone(),
            host_link: uplink.host_link.clone(),
            inner_link: names::INNER_LINK.parse()?,
            pairs,
        })
    }

    /// A namespace's uplink, recorded now if it is new.
    fn uplink_of(&self, namespace: &str) -> Result<Uplink> {
        if let Some(uplink) = self.store.read(|tx| tx.uplink(namespace))? {
            return Ok(uplink);
        }
        let mut foreign = vec![Subnet::new([169, 254, 169, 254].into(), 32)?];
        for (subnet, address) in self.kernel.host_addresses()? {
            // Of the one subnet that everybody has (RFC 3927) the host's own address alone is taken.
            let shared = matches!(address, IpAddr::V4(v4) if v4.is_link_local());
            foreign.push(if shared { Subnet::new(address, 32)? } else { subnet });
        }
        let (namespace, pools) = (namespace.to_owned(), self.pools);
        self.store.write(move |tx| {
            if let Some(uplink) = tx.uplink(&namespace)? {
                return Ok(uplink);
            }
            let mut number = tx.free_uplink_number(0)?;
            // Never what the host has for something else, and never the metadata service's address.
            while pools.pairs(number)?.iter().any(|pair| foreign.iter().any(|taken| taken.overlaps(*pair))) {
                number = tx.free_uplink_number(number + 1)?;
            }
            let host_link: LinkName = format!("{}{}", names::UPLINK, VnicId::random()).parse()?;
            let uplink = Uplink { namespace, number, host_link };
            tx.insert_uplink(&uplink)?;
            Ok(uplink)
        })
    }

    /// Takes a namespace's uplink away when no network leaves by it any more, and the host's rules with the last
    /// uplink. The caller has the namespace's lock.
    pub(crate) fn tidy_uplink(&self, namespace: &str) -> Result<()> {
        let (left, uplink) = self.store.read(|tx| Ok((tx.networks_in_namespace(namespace)?, tx.uplink(namespace)?)))?;
        let Some(uplink) = uplink.filter(|_| !left.iter().any(|network| network.egress == Egress::Nat)) else {
            return Ok(());
        };
        self.delete_uplink(&uplink)?;
        self.tidy_host_rules()
    }

    /// Takes an uplink away, links before record.
    pub(crate) fn delete_uplink(&self, uplink: &Uplink) -> Result<()> {
        self.kernel.delete_link(&Namespace::Host, &uplink.host_link)?;
        let namespace = uplink.namespace.clone();
        self.store.write(move |tx| tx.delete_uplink(&namespace))
    }
}
