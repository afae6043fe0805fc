//! What records stand for and is not there: it is made.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ciao_common::store::{Egress, Network, Owner, Vnic};

use super::{Depth, Known, Repairs};
use crate::kernel::{LinkLocation, Namespace};
use crate::{Driver, fabric, names};

/// What is recorded of a namespace.
#[derive(Default)]
struct Space {
    networks: Vec<Network>,
    vnics: Vec<Vnic>,
}

impl Driver {
    /// Networks' bridges, gateways and ways out, and launchers' VNICs, a namespace at a time.
    pub(super) fn make_missing(&self, repairs: &mut Repairs<'_>, depth: Depth, docker: Option<&Known>) -> Result<()> {
        let all_known = self.are_all_known_recorded(docker)?;
        let (networks, vnics) = self.store.read(|tx| Ok((tx.networks()?, tx.vnics(None)?)))?;
        let mut spaces = BTreeMap::<Option<String>, Space>::new();
        for network in networks {
            spaces.entry(network.namespace.clone()).or_default().networks.push(network);
        }
        for vnic in vnics.into_iter().filter(|vnic| vnic.owner == Owner::Launcher) {
            spaces.entry(vnic.namespace.clone()).or_default().vnics.push(vnic);
        }
        for (namespace, space) in spaces {
            self.make_missing_in(repairs, namespace.as_deref(), space, depth, all_known)?;
        }
        Ok(())
    }

    fn make_missing_in(
        &self,
        repairs: &mut Repairs<'_>,
        namespace: Option<&str>,
        space: Space,
        depth: Depth,
        all_known: bool,
    ) -> Result<()> {
        let links = self.fabric.kernel.links(&Namespace::of(namespace))?;
        let stands = |network: &Network| {
            let bridge = links.contains(&network.bridge);
            bridge && (network.egress != Egress::Nat || links.iter().any(|link| link.as_str() == names::INNER_LINK))
        };
        let (standing, missing): (Vec<_>, Vec<_>) = space.networks.into_iter().partition(stands);
        if depth == Depth::Whole
            && let Err(error) = self.refresh(namespace, &standing)
        {
            log::warn!("reconcile: refresh {}: {error:#}", Namespace::of(namespace));
        }
        for network in missing {
            let what = format!("bridge {} of network {}", network.bridge, network.id.short());
            repairs
                .repair("make", what, "it or its way out is not there", |driver| driver.make_network(&network, depth));
        }
        for vnic in space.vnics {
            let veth = fabric::veth(&vnic);
            let place = self.fabric.kernel.locate(&veth)?;
            let why = match place {
                LinkLocation::Container if all_known && self.is_stuck(&vnic)? => {
                    "Docker knows nothing of who has its link"
                }
                LinkLocation::Container => continue,
                LinkLocation::Host(Some(mac)) if mac == vnic.mac => continue,
                LinkLocation::Host(_) => "its link has another MAC address",
                LinkLocation::Absent => "its links are not there",
            };
            repairs.repair("make", format!("VNIC {}", vnic.id), why, |driver| {
                if place == LinkLocation::Container {
                    driver.fabric.kernel.delete_link(&veth.namespace, &veth.host_link)?;
                }
                driver.make_vnic(&vnic, depth)
            });
        }
        Ok(())
    }

    /// Whether every endpoint that Docker knows is recorded, so that a VNIC without an endpoint is nobody's.
    fn are_all_known_recorded(&self, docker: Option<&Known>) -> Result<bool> {
        let Some(known) = docker.and_then(|docker| docker.endpoints.as_ref()) else { return Ok(false) };
        let recorded: BTreeSet<_> = self.store.read(|tx| tx.endpoints())?.into_iter().map(|one| one.id).collect();
        Ok(known.is_subset(&recorded))
    }

    /// Whether a launcher's VNIC, seen in a container, has no endpoint: the engine was killed while it started that
    /// container, and something of it is left. A container that is just ending gives its link back before its endpoint
    /// goes, so a second look tells the two apart.
    fn is_stuck(&self, vnic: &Vnic) -> Result<bool> {
        let has_endpoint = self.store.read(|tx| tx.endpoint_of_vnic(&vnic.id))?.is_some();
        Ok(!has_endpoint && self.fabric.kernel.locate(&fabric::veth(vnic))? == LinkLocation::Container)
    }

    /// Writes a namespace's rules, and the addresses of its networks that stand, anew.
    fn refresh(&self, namespace: Option<&str>, standing: &[Network]) -> Result<()> {
        let _lock = self.fabric.lock(namespace);
        if let Some(name) = namespace {
            if !self.store.read(|tx| tx.is_namespace_used(name))? {
                return Ok(());
            }
            self.fabric.kernel.ensure_namespace(name)?;
            self.fabric.tenant_rules.load(name)?;
        }
        standing.iter().try_for_each(|network| {
            self.fabric.ensure_network_links(network)?;
            network.namespace.as_deref().map_or(Ok(()), |name| self.fabric.bridges.attach_vnics(name, &network.bridge))
        })
    }

    /// Makes a network's links, unless it was deleted meanwhile. A whole reconcile has written its rules already.
    fn make_network(&self, network: &Network, depth: Depth) -> Result<()> {
        let _lock = self.fabric.lock(network.namespace.as_deref());
        match self.store.read(|tx| tx.network(&network.id))? {
            Some(network) if depth == Depth::Whole => self.fabric.ensure_network_links(&network),
            Some(network) => self.fabric.ensure_network(&network),
            None => Ok(()),
        }
    }

    /// Makes a VNIC's links, unless it was deleted meanwhile.
    fn make_vnic(&self, vnic: &Vnic, depth: Depth) -> Result<()> {
        let _lock = self.fabric.lock(vnic.namespace.as_deref());
        match self.store.read(|tx| tx.vnic(&vnic.id))? {
            Some(vnic) if depth == Depth::Whole => self.fabric.vnics.ensure_links(&vnic),
            Some(vnic) => self.fabric.vnics.ensure(&vnic),
            None => Ok(()),
        }
    }
}
