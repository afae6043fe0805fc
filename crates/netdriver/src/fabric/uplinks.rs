// SPDX-License-Identifier: Apache-2.0
//! Tenants' uplinks to the host: when they are made, which addresses they have, and when they are deleted.
//!
//! Each namespace with a network of `egress=nat` has one veth pair to the host, with two addresses of its own from a
//! pool (link-local unless configured) and, for IPv6, of a ULA prefix. Whatever addresses two tenants share, on the
//! host they are told apart by those of their uplinks.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use ciao_common::store::{Egress, Network, Store, Uplink};
use ciao_common::types::{LinkName, Subnet, VnicId};

use super::host_rules::HostRules;
use crate::kernel::element::{Change, Element};
use crate::kernel::{Flows, Kernel, Namespace, UplinkPair};
use crate::uplink_pool::UplinkPool;
use crate::{names, rules};

/// All uplinks.
pub(crate) struct Uplinks {
    pub(super) store: Arc<Store>,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) host_rules: Arc<HostRules>,
    /// Where their addresses come from.
    pub(crate) pool: UplinkPool,
}

impl Uplinks {
    /// Makes the uplink of networks of a namespace. The caller has the namespace's lock.
    pub(super) fn ensure(&self, namespace: &str, routed: &[&Network]) -> Result<()> {
        let uplink = self.record(namespace)?;
        let networks = self.store.read(|tx| tx.networks_in_namespace(namespace))?;
        let v6 = networks.iter().any(Network::has_v6);
        let pair = self.pair(&uplink, v6)?;
        self.host_rules.ensure(v6)?;
        self.kernel.ensure_uplink(&pair)?;
        let mut subnets = routed.iter().flat_map(|network| rules::routed6(network));
        subnets.try_for_each(|subnet| self.kernel.route_to_uplink(&pair, subnet))
    }

    /// With IPv6 only where a network has it: the host must forward IPv6 then, and accepts no router advertisements.
    pub(super) fn pair(&self, uplink: &Uplink, v6: bool) -> Result<UplinkPair> {
        let mut pairs = self.pool.pairs(uplink.number)?.to_vec();
        pairs.retain(|pair| v6 || pair.network().is_ipv4());
        Ok(UplinkPair {
            namespace: uplink.namespace.clone(),
            host_link: uplink.host_link.clone(),
            inner_link: names::INNER_LINK.parse()?,
            pairs,
        })
    }

    /// A namespace's uplink, recorded now if it is new.
    fn record(&self, namespace: &str) -> Result<Uplink> {
        if let Some(uplink) = self.store.read(|tx| tx.uplink(namespace))? {
            return Ok(uplink);
        }
        let foreign = self.foreign_subnets()?;
        let (namespace, pool) = (namespace.to_owned(), self.pool);
        self.store.write(move |tx| {
            if let Some(uplink) = tx.uplink(&namespace)? {
                return Ok(uplink);
            }
            let mut number = tx.free_uplink_number(0)?;
            while pool.pairs(number)?.iter().any(|pair| foreign.iter().any(|taken| taken.overlaps(*pair))) {
                number = tx.free_uplink_number(number + 1)?;
            }
            let host_link: LinkName = format!("{}{}", names::UPLINK, VnicId::random()).parse()?;
            let uplink = Uplink { namespace, number, host_link };
            tx.insert_uplink(&uplink)?;
            Ok(uplink)
        })
    }

    /// What an uplink must not have: what the host has for something else, and the metadata service's address.
    fn foreign_subnets(&self) -> Result<Vec<Subnet>> {
        let mut foreign = vec![Subnet::new([169, 254, 169, 254].into(), 32)?];
        for (subnet, address) in self.kernel.host_addresses()? {
            // Of the IPv4 link-local subnet (RFC 3927), which is not routed, only the host's own address is in use.
            let shared = matches!(address, IpAddr::V4(v4) if v4.is_link_local());
            foreign.push(if shared { Subnet::new(address, 32)? } else { subnet });
        }
        Ok(foreign)
    }

    /// What the host's rules have of a network.
    pub(super) fn host_elements(&self, namespace: &str, network: &Network) -> Result<Vec<Element>> {
        let uplink = self.store.read(|tx| tx.uplink(namespace))?;
        Ok(uplink.map_or_else(Vec::new, |uplink| rules::host_elements(network, &uplink.host_link)))
    }

    /// Removes what the host's rules and routes have of a deleted network, unless another network there has the same.
    pub(super) fn unroute(&self, namespace: &str, deleted: &Network) -> Result<()> {
        let (left, uplink) = self.store.read(|tx| Ok((tx.networks_in_namespace(namespace)?, tx.uplink(namespace)?)))?;
        let Some(uplink) = uplink else { return Ok(()) };
        let kept: Vec<_> = left.iter().flat_map(|network| rules::host_elements(network, &uplink.host_link)).collect();
        let mut elements = rules::host_elements(deleted, &uplink.host_link);
        elements.retain(|element| !kept.contains(element));
        if deleted.has_exceptions() {
            self.host_rules.reload()?;
        } else if !elements.is_empty() && self.host_rules.exist()? {
            self.host_rules.change(&elements, Change::Delete)?;
        }
        let kept: Vec<_> = left.iter().flat_map(rules::routed6).collect();
        let pair = self.pair(&uplink, true)?;
        let subnets: Vec<_> = rules::routed6(deleted).filter(|subnet| !kept.contains(subnet)).collect();
        subnets.iter().try_for_each(|subnet| self.kernel.unroute_from_uplink(&pair, *subnet))?;
        if subnets.is_empty() {
            return Ok(());
        }
        // They are not translated, so those of the uplink's addresses, which go with it, are not these.
        self.kernel.forget_flows(&Namespace::Host, &Flows::Within(subnets)).context("remove a network's flows")
    }

    /// Deletes a namespace's uplink when no network uses it, and the host's rules with the last uplink. The caller has
    /// the namespace's lock.
    pub(crate) fn tidy(&self, namespace: &str) -> Result<()> {
        let (left, uplink) = self.store.read(|tx| Ok((tx.networks_in_namespace(namespace)?, tx.uplink(namespace)?)))?;
        let Some(uplink) = uplink.filter(|_| !left.iter().any(|network| network.egress == Egress::Nat)) else {
            return Ok(());
        };
        // The link before its record.
        self.kernel.delete_link(&Namespace::Host, &uplink.host_link)?;
        let addresses = [false, true].map(|v6| self.pool.inner_address(uplink.number, v6)).into();
        self.kernel.forget_flows(&Namespace::Host, &Flows::Of(addresses)).context("remove an uplink's flows")?;
        self.store.write(move |tx| tx.delete_uplink(&uplink.namespace))?;
        self.host_rules.tidy()
    }
}
