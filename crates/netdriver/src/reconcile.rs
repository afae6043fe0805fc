//! Records and kernel brought together again: after a reboot, a crash, a killed dockerd, or somebody's `ip link del`.
//!
//! It runs at start, before the plugin socket answers, then on a timer, and when an administrator asks. What a record
//! stands for and is gone is made again; links and namespaces of ours that no record stands for are deleted; endpoints
//! whose container is gone are forgotten. It never touches an endpoint or link younger than [`SETTLED`], whose call may
//! be under way, and never a container's link.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use ciao_common::api::network::NetworkRef;
use ciao_common::store::{Egress, Endpoint, Network, Owner, Vnic, now};
use ciao_common::types::{EndpointId, LinkName, NetworkId};
use serde::{Deserialize, Serialize};

use crate::kernel::{Namespace, Place};
use crate::{Driver, endpoint, names, pairing, uplink, wiring};

/// After this time an endpoint has joined, or its call has failed.
pub const SETTLED: Duration = Duration::from_secs(60);

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Nothing: it is only said what would be.
    Dry,
    /// What is seen to be missing at a glance: cheap enough for every minute.
    Glance,
    /// Besides, every namespace's rules and every network's addresses are written anew from the records.
    Whole,
}

/// What Docker knows: the rest is forgotten.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The ids of all its networks.
    pub networks: BTreeSet<NetworkId>,
    /// The ids of all endpoints of its networks of driver ciao-net; `None`: nobody asked.
    #[serde(default)]
    pub endpoints: Option<BTreeSet<EndpointId>>,
}

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// `make`, `delete` or `forget`.
    pub action: String,
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What is recorded of a namespace.
#[derive(Default)]
struct Space {
    networks: Vec<Network>,
    vnics: Vec<Vnic>,
}

/// Collects repairs, and does them unless it is a dry run. A repair that fails is logged: the others go on.
struct Repairs<'a> {
    driver: &'a Driver,
    dry: bool,
    done: Vec<Repair>,
}

impl Repairs<'_> {
    fn repair(&mut self, action: &str, what: String, why: &str, act: impl FnOnce(&Driver) -> Result<()>) {
        if !self.dry {
            log::info!("reconcile: {action} {what}: {why}");
            if let Err(error) = act(self.driver) {
                log::warn!("reconcile: {action} {what}: {error:#}");
                return;
            }
        }
        self.done.push(Repair { action: action.to_owned(), what, why: why.to_owned() });
    }
}

impl Driver {
    /// Repairs what differs, and says what.
    ///
    /// # Errors
    /// The store or the kernel cannot be read at all.
    pub fn reconcile(&self, depth: Depth) -> Result<Vec<Repair>> {
        self.reconcile_with(depth, None)
    }

    /// As [`Self::reconcile`], with what Docker knows.
    ///
    /// # Errors
    /// As [`Self::reconcile`].
    pub fn reconcile_with(&self, depth: Depth, docker: Option<&Known>) -> Result<Vec<Repair>> {
        let dry = depth == Depth::Dry;
        let mut repairs = Repairs { driver: self, dry, done: Vec::new() };
        if !dry {
            self.wiring.delete_all_going()?;
        }
        self.forget_networks(&mut repairs, docker)?;
        self.forget_stale_endpoints(&mut repairs, docker)?;
        if !dry {
            self.settle_pairings()?;
        }
        self.make_missing(&mut repairs, depth)?;
        self.delete_foreign(&mut repairs)?;
        if !dry {
            self.tidy_uplinks(depth)?;
        }
        Ok(repairs.done)
    }

    /// Networks that Docker does not know: its call to make them was answered in vain, or that to delete them was lost.
    /// Without its list, a network whose addresses ciao-ipam has released is one. A young one may be under way.
    fn forget_networks(&self, repairs: &mut Repairs<'_>, docker: Option<&Known>) -> Result<()> {
        let before = now() - i64::try_from(SETTLED.as_millis()).unwrap_or(i64::MAX);
        let (orphans, settled) = self.store.read(|tx| {
            let settled = tx.networks_before(before)?;
            Ok((tx.networks_without_pools()?, settled))
        })?;
        for id in settled {
            let why = match docker {
                Some(known) if !known.networks.contains(&id) => "Docker does not know it",
                _ if orphans.contains(&id) => "its addresses were released",
                _ => continue,
            };
            repairs.repair("forget", format!("network {}", id.short()), why, |driver| {
                driver.delete_network(NetworkRef { network_id: id }).map(drop)
            });
        }
        Ok(())
    }

    /// Endpoints that no container has: dockerd was killed, or its call to delete them was lost. Killed while it started a
    /// container, Docker 28 leaves a `runc init` in that container's namespace for good: only its own list tells.
    fn forget_stale_endpoints(&self, repairs: &mut Repairs<'_>, docker: Option<&Known>) -> Result<()> {
        let known = docker.and_then(|docker| docker.endpoints.as_ref());
        let before = now() - i64::try_from(SETTLED.as_millis()).unwrap_or(i64::MAX);
        let endpoints = self.store.read(|tx| {
            let endpoints = tx.endpoints()?.into_iter().filter(|endpoint| endpoint.created < before);
            endpoints.map(|endpoint| Ok((tx.vnic(&endpoint.vnic)?, endpoint))).collect::<Result<Vec<_>>>()
        })?;
        for (vnic, stale) in endpoints {
            let lives = match &vnic {
                Some(vnic) => self.wiring.kernel.place(&wiring::veth(vnic))? == Place::Container,
                None => false,
            };
            let why = match known {
                _ if !lives => "no container has its link",
                Some(known) if !known.contains(&stale.id) => "Docker does not know it",
                _ => continue,
            };
            let left = vnic.filter(|vnic| lives && vnic.owner == Owner::Launcher);
            repairs.repair("forget", format!("endpoint {}", stale.id.short()), why, |driver| {
                driver.forget_endpoint(stale)?;
                // Made again with what is missing.
                left.map_or(Ok(()), |vnic| {
                    let namespace = Namespace::of(vnic.namespace.as_deref());
                    driver.wiring.kernel.delete_link(&namespace, &vnic.host_link)
                })
            });
        }
        Ok(())
    }

    /// Networks without tenant that were paired with each other's sets of addresses, as far as leases tell by now.
    fn settle_pairings(&self) -> Result<()> {
        self.store.write(|tx| {
            for network in tx.networks()?.into_iter().filter(|network| network.tenant.is_none()) {
                for endpoint in tx.endpoints_of_network(&network.id)? {
                    for address in [endpoint.address, endpoint.address6].into_iter().flatten() {
                        // The one before may have changed it.
                        let network = tx.network(&network.id)?.unwrap_or_else(|| network.clone());
                        pairing::settle(tx, &network, address)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn forget_endpoint(&self, stale: Endpoint) -> Result<()> {
        let gone = self.store.write(move |tx| endpoint::forget_same(tx, &stale))?;
        self.clean_up(gone);
        Ok(())
    }

    /// Networks' bridges, gateways and ways out, and launchers' VNICs, a namespace at a time.
    fn make_missing(&self, repairs: &mut Repairs<'_>, depth: Depth) -> Result<()> {
        let (networks, vnics) = self.store.read(|tx| Ok((tx.networks()?, tx.vnics(None)?)))?;
        let mut spaces = BTreeMap::<Option<String>, Space>::new();
        for network in networks {
            spaces.entry(network.namespace.clone()).or_default().networks.push(network);
        }
        for vnic in vnics.into_iter().filter(|vnic| vnic.owner == Owner::Launcher) {
            spaces.entry(vnic.namespace.clone()).or_default().vnics.push(vnic);
        }
        for (namespace, space) in spaces {
            self.make_missing_in(repairs, namespace.as_deref(), space, depth)?;
        }
        Ok(())
    }

    fn make_missing_in(
        &self,
        repairs: &mut Repairs<'_>,
        namespace: Option<&str>,
        space: Space,
        depth: Depth,
    ) -> Result<()> {
        let links = self.wiring.kernel.links(&Namespace::of(namespace))?;
        let stands = |network: &Network| {
            let bridge = links.contains(&network.bridge);
            bridge && (network.egress != Egress::Nat || links.iter().any(|link| link.as_str() == uplink::INNER_LINK))
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
            let why = match self.wiring.kernel.place(&wiring::veth(&vnic))? {
                Place::Container => continue,
                Place::Host(Some(mac)) if mac == vnic.mac => continue,
                Place::Host(_) => "its link has another MAC address",
                Place::Gone => "its links are not there",
            };
            repairs.repair("make", format!("VNIC {}", vnic.id), why, |driver| driver.make_vnic(&vnic, depth));
        }
        Ok(())
    }

    /// Writes a namespace's rules, and the addresses of its networks that stand, anew.
    fn refresh(&self, namespace: Option<&str>, standing: &[Network]) -> Result<()> {
        let _lock = self.wiring.lock(namespace);
        if let Some(name) = namespace {
            if !self.store.read(|tx| tx.is_namespace_used(name))? {
                return Ok(());
            }
            self.wiring.kernel.ensure_namespace(name)?;
            self.wiring.load_rules(name)?;
        }
        standing.iter().try_for_each(|network| self.wiring.build_network(network))
    }

    /// Makes a network's links, unless it was deleted meanwhile. A whole reconcile has written its rules already.
    fn make_network(&self, network: &Network, depth: Depth) -> Result<()> {
        let _lock = self.wiring.lock(network.namespace.as_deref());
        match self.store.read(|tx| tx.network(&network.id))? {
            Some(network) if depth == Depth::Whole => self.wiring.build_network(&network),
            Some(network) => self.wiring.ensure_network(&network),
            None => Ok(()),
        }
    }

    /// Makes a VNIC's links, unless it was deleted meanwhile.
    fn make_vnic(&self, vnic: &Vnic, depth: Depth) -> Result<()> {
        let _lock = self.wiring.lock(vnic.namespace.as_deref());
        match self.store.read(|tx| tx.vnic(&vnic.id))? {
            // The bridge of a launcher's VNIC may have no network yet, that would have made it.
            Some(vnic) if depth == Depth::Whole => {
                self.wiring.ensure_bridge(vnic.namespace.as_deref(), &vnic.bridge, vnic.mtu)?;
                self.wiring.build_vnic(&vnic)
            }
            Some(vnic) => self.wiring.ensure_vnic(&vnic),
            None => Ok(()),
        }
    }

    /// Uplinks that no network leaves by, and the host's rules.
    fn tidy_uplinks(&self, depth: Depth) -> Result<()> {
        for uplink in self.store.read(|tx| tx.uplinks())? {
            let _lock = self.wiring.lock(Some(&uplink.namespace));
            self.wiring.tidy_uplink(&uplink.namespace)?;
        }
        self.wiring.tidy_host_rules()?;
        self.wiring.restore_host_rules(depth)
    }

    /// Puts the host's rules back after somebody's `iptables -F` or firewall reload. Cheap enough for every few seconds.
    ///
    /// # Errors
    /// The firewall's.
    pub fn watch_firewall(&self) -> Result<()> {
        self.wiring.watch_host_rules()
    }

    /// What only a start needs: the ports that are recorded are held again.
    ///
    /// # Errors
    /// The disk's.
    pub fn resume(&self) -> Result<()> {
        self.hold_recorded_ports()
    }

    /// Links and namespaces that look like ours and that no record stands for.
    fn delete_foreign(&self, repairs: &mut Repairs<'_>) -> Result<()> {
        // The kernel is read first: what is recorded in between, or was made while its record was still being written, is
        // in the second reading.
        let links = self.wiring.kernel.links(&Namespace::Host)?;
        let namespaces = self.wiring.kernel.namespaces()?;
        self.store.settle()?;
        let mut known: BTreeSet<LinkName> = self.store.read(|tx| tx.vnic_links())?.into_iter().collect();
        known.extend(self.store.read(|tx| tx.uplinks())?.into_iter().map(|uplink| uplink.host_link));
        for link in links.into_iter().filter(|link| names::is_ours(link) && !known.contains(link)) {
            repairs.repair("delete", format!("link {link}"), "no record stands for it", |driver| {
                driver.wiring.kernel.delete_link(&Namespace::Host, &link)
            });
        }
        for name in namespaces {
            self.delete_foreign_in(repairs, &name)?;
        }
        Ok(())
    }

    fn delete_foreign_in(&self, repairs: &mut Repairs<'_>, name: &str) -> Result<()> {
        let links = self.wiring.kernel.links(&Namespace::Named(name.to_owned()))?;
        if self.store.read(|tx| tx.is_namespace_used(name))? {
            return self.delete_foreign_bridges(repairs, name, links);
        }
        if links.iter().any(names::is_vnic_link) {
            // As with a lost or exchanged database: better a namespace too many than a container cut off.
            log::warn!(
                "reconcile: network namespace {name} has links of containers that no record stands for: left alone"
            );
            return Ok(());
        }
        let what = format!("network namespace {name}");
        repairs.repair("delete", what, "no network and no VNIC is in it", |driver| {
            let _lock = driver.wiring.lock(Some(name));
            let used = driver.store.read(|tx| tx.is_namespace_used(name))?;
            if used { Ok(()) } else { driver.wiring.kernel.delete_namespace(name) }
        });
        Ok(())
    }

    /// Bridges, and gateways on them, that a failed call left in a namespace that is in use.
    fn delete_foreign_bridges(&self, repairs: &mut Repairs<'_>, name: &str, links: Vec<LinkName>) -> Result<()> {
        let others = |link: &LinkName| matches!(link.as_str(), "lo" | uplink::INNER_LINK) || names::is_vnic_link(link);
        for bridge in links.into_iter().filter(|link| !others(link)) {
            if !self.store.read(|tx| tx.is_bridge_used(name, &bridge))? {
                let what = format!("bridge {bridge} in network namespace {name}");
                repairs.repair("delete", what, "no network and no VNIC is on it", |driver| {
                    let _lock = driver.wiring.lock(Some(name));
                    driver.wiring.tidy_bridge(name, &bridge).map(drop)
                });
            }
        }
        for (bridge, subnet, address) in self.wiring.kernel.addresses(name)? {
            if !others(&bridge) && !self.wiring.is_gateway(name, &bridge, address)? {
                let what = format!("gateway address {address} of bridge {bridge} in network namespace {name}");
                repairs.repair("delete", what, "no network there has it", |driver| {
                    let _lock = driver.wiring.lock(Some(name));
                    let needed = driver.wiring.is_gateway(name, &bridge, address)?;
                    if needed { Ok(()) } else { driver.wiring.kernel.remove_address(name, &bridge, subnet, address) }
                });
            }
        }
        Ok(())
    }
}
