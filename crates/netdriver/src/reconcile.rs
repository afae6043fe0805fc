//! Records and kernel brought together again: after a reboot, a crash, a killed dockerd, or somebody's `ip link del`.
//!
//! It runs at start, before the plugin socket answers, then on a timer, and when an administrator asks. What a record
//! stands for and is gone is made again; links and namespaces of ours that no record stands for are deleted; endpoints
//! whose container is gone are forgotten. It never touches an endpoint or link younger than [`SETTLED`], whose call may
//! be under way, and never a container's link.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use ciao_common::store::{Egress, Endpoint, Network, Owner, Vnic, now};
use ciao_common::types::LinkName;
use serde::{Deserialize, Serialize};

use crate::kernel::{Namespace, Place};
use crate::{Driver, endpoint, names, wiring};

/// After this time an endpoint has joined, or its call has failed.
pub const SETTLED: Duration = Duration::from_secs(60);

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
    /// Repairs what differs, and says what. With `dry`, only says it.
    ///
    /// # Errors
    /// The store or the kernel cannot be read at all.
    pub fn reconcile(&self, dry: bool) -> Result<Vec<Repair>> {
        let mut repairs = Repairs { driver: self, dry, done: Vec::new() };
        if !dry {
            self.wiring.delete_all_going()?;
        }
        self.forget_stale_endpoints(&mut repairs)?;
        self.make_missing(&mut repairs)?;
        self.delete_foreign(&mut repairs)?;
        if !dry {
            self.put_rules_right()?;
        }
        Ok(repairs.done)
    }

    /// Endpoints that no container has: dockerd was killed, or its call to delete them was lost.
    fn forget_stale_endpoints(&self, repairs: &mut Repairs<'_>) -> Result<()> {
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
            if !lives {
                let what = format!("endpoint {}", stale.id.short());
                repairs.repair("forget", what, "no container has its link", |driver| driver.forget_endpoint(stale));
            }
        }
        Ok(())
    }

    fn forget_endpoint(&self, stale: Endpoint) -> Result<()> {
        let gone = self.store.write(move |tx| endpoint::forget_same(tx, &stale))?;
        self.clean_up(gone);
        Ok(())
    }

    /// Networks' bridges and gateways, and launchers' VNICs.
    fn make_missing(&self, repairs: &mut Repairs<'_>) -> Result<()> {
        let (networks, vnics) = self.store.read(|tx| Ok((tx.networks()?, tx.vnics(None)?)))?;
        for network in networks {
            let what = format!("bridge {} of network {}", network.bridge, network.id.short());
            let namespace = Namespace::of(network.namespace.as_deref());
            let there = self.wiring.kernel.links(&namespace)?.contains(&network.bridge);
            let ensure = move |driver: &Driver| {
                let _lock = driver.wiring.lock(network.namespace.as_deref());
                driver.wiring.ensure_network(&network)
            };
            if !there {
                repairs.repair("make", what, "it is not there", ensure);
            } else if !repairs.dry
                && let Err(error) = ensure(self)
            {
                log::warn!("reconcile: {what}: {error:#}");
            }
        }
        for vnic in vnics.into_iter().filter(|vnic| vnic.owner == Owner::Launcher) {
            self.make_missing_vnic(repairs, vnic)?;
        }
        Ok(())
    }

    fn make_missing_vnic(&self, repairs: &mut Repairs<'_>, vnic: Vnic) -> Result<()> {
        let why = match self.wiring.kernel.place(&wiring::veth(&vnic))? {
            Place::Container => return Ok(()),
            Place::Host(Some(mac)) if mac == vnic.mac => return Ok(()),
            Place::Host(_) => "its link has another MAC address",
            Place::Gone => "its links are not there",
        };
        repairs.repair("make", format!("VNIC {}", vnic.id), why, move |driver| {
            let _lock = driver.wiring.lock(vnic.namespace.as_deref());
            driver.wiring.ensure_vnic(&vnic).map(drop)
        });
        Ok(())
    }

    /// Rules that somebody flushed, and uplinks and rules that nobody needs.
    fn put_rules_right(&self) -> Result<()> {
        let networks = self.store.read(|tx| tx.networks())?;
        for uplink in self.store.read(|tx| tx.uplinks())? {
            let here = |network: &Network| network.namespace.as_deref() == Some(uplink.namespace.as_str());
            if !networks.iter().any(|network| here(network) && network.egress == Egress::Nat) {
                log::info!("reconcile: uplink {} of {}: no network leaves by it", uplink.host_link, uplink.namespace);
                self.wiring.delete_uplink(&uplink)?;
            }
        }
        for name in self.wiring.kernel.namespaces()? {
            let _lock = self.wiring.lock(Some(&name));
            if self.store.read(|tx| tx.is_namespace_used(&name))? {
                self.wiring.ensure_rules(&name)?;
            }
        }
        self.wiring.tidy_host_rules()?;
        self.wiring.restore_host_rules()
    }

    /// Puts the host's rules back after somebody's `iptables -F` or firewall reload. Cheap enough for every few seconds.
    ///
    /// # Errors
    /// The firewall's.
    pub fn watch_firewall(&self) -> Result<()> {
        self.wiring.restore_host_rules()
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
        // The kernel is read first: what is recorded in between is in the second reading.
        let links = self.wiring.kernel.links(&Namespace::Host)?;
        let namespaces = self.wiring.kernel.namespaces()?;
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
        let used = self.store.read(|tx| tx.is_namespace_used(name))?;
        if !used && links.iter().any(names::is_vnic_link) {
            // As with a lost or exchanged database: better a namespace too many than a container cut off.
            log::warn!(
                "reconcile: network namespace {name} has links of containers that no record stands for: left alone"
            );
        } else if !used {
            repairs.repair(
                "delete",
                format!("network namespace {name}"),
                "no network and no VNIC is in it",
                |driver| {
                    let _lock = driver.wiring.lock(Some(name));
                    let used = driver.store.read(|tx| tx.is_namespace_used(name))?;
                    if used { Ok(()) } else { driver.wiring.kernel.delete_namespace(name) }
                },
            );
        }
        Ok(())
    }
}
