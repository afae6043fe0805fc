// SPDX-License-Identifier: Apache-2.0
//! Links, namespaces and addresses of ours without a record: they are deleted.

use std::collections::BTreeSet;

use anyhow::Result;
use ciao_common::types::LinkName;

use super::repairs::Repairs;
use crate::kernel::Namespace;
use crate::{Driver, names};

impl Driver {
    /// Links and namespaces of ours without a record.
    pub(super) fn delete_foreign(&self, repairs: &mut Repairs<'_>) -> Result<()> {
        // The kernel is read first: what is recorded and made in between is in the second reading.
        let links = self.fabric.kernel.links(&Namespace::Host)?;
        let namespaces = self.fabric.kernel.namespaces()?;
        let mut known: BTreeSet<LinkName> = self.store.read(|tx| tx.vnic_links())?.into_iter().collect();
        known.extend(self.store.read(|tx| tx.uplinks())?.into_iter().map(|uplink| uplink.host_link));
        // Containers may need the uplinks, and a backup may have the VNICs.
        let is_lost = self.fabric.lost.is_any();
        let mut gone = BTreeSet::new();
        for link in links.into_iter().filter(|link| !is_lost && names::is_ours(link) && !known.contains(link)) {
            let deleted = repairs.repair("delete", format!("link {link}"), "not recorded", |driver| {
                driver.fabric.kernel.delete_link(&Namespace::Host, &link).map(|()| true)
            });
            gone.extend(Some(link).filter(|_| deleted));
        }
        for name in namespaces {
            let deleted = self.delete_foreign_in(repairs, &name, &known, &gone);
            repairs.step(format!("network namespace {name}"), deleted);
        }
        Ok(())
    }

    /// The links `gone` are deleted, or would be.
    fn delete_foreign_in(
        &self,
        repairs: &mut Repairs<'_>,
        name: &str,
        known: &BTreeSet<LinkName>,
        gone: &BTreeSet<LinkName>,
    ) -> Result<()> {
        let mut links = self.fabric.kernel.links(&Namespace::Named(name.to_owned()))?;
        links.retain(|link| !names::container_end(link).is_some_and(|end| gone.contains(&end)));
        if self.fabric.lost.has(name)? {
            return Ok(());
        }
        if self.store.read(|tx| tx.is_namespace_used(name))? {
            for link in self.unrecorded_vnics(&links, known)? {
                // As after the restore of an old database. Its container still receives.
                log::warn!(
                    "reconcile: link {link} in network namespace {name} belongs to a container that is not recorded: left \
                     unchanged, its traffic is dropped; restart the container"
                );
            }
            self.delete_foreign_tunnels(repairs, name, &links)?;
            return self.delete_foreign_bridges(repairs, name, links);
        }
        if links.iter().any(names::is_vnic_link) {
            // As with a lost or exchanged database: better a namespace too many than a container cut off.
            log::warn!(
                "reconcile: network namespace {name} has links of containers that are not recorded: left unchanged"
            );
            return Ok(());
        }
        if self.fabric.lost.is_any() {
            // Its network may be recorded again, and its bridge's alias says on which pool.
            return Ok(());
        }
        let what = format!("network namespace {name}");
        repairs.repair("delete", what, "no network or VNIC uses it", |driver| {
            let _lock = driver.fabric.lock(Some(name));
            let used = driver.store.read(|tx| tx.is_namespace_used(name))?;
            if used { Ok(false) } else { driver.fabric.bridges.delete_namespace(name).map(|()| true) }
        });
        Ok(())
    }

    /// Links of VNICs that are not `known`, and were not recorded since those were read either.
    fn unrecorded_vnics<'a>(&self, links: &'a [LinkName], known: &BTreeSet<LinkName>) -> Result<Vec<&'a LinkName>> {
        let mut unknown: Vec<_> =
            links.iter().filter(|link| names::is_vnic_link(link) && !known.contains(*link)).collect();
        if !unknown.is_empty() {
            let recorded: BTreeSet<_> = self.store.read(|tx| tx.vnic_links())?.into_iter().collect();
            unknown.retain(|link| !recorded.contains(*link));
        }
        Ok(unknown)
    }

    /// Tunnels of networks that a failed call left.
    fn delete_foreign_tunnels(&self, repairs: &mut Repairs<'_>, name: &str, links: &[LinkName]) -> Result<()> {
        let mut known = BTreeSet::new();
        for tunnel in self.store.read(|tx| tx.tunnels())? {
            known.insert(names::tunnel_link(&tunnel.network)?);
        }
        for link in links.iter().filter(|link| names::is_tunnel(link) && !known.contains(*link)) {
            repairs.repair("delete", format!("link {link}"), "not recorded", |driver| {
                driver.fabric.kernel.delete_link(&Namespace::Named(name.to_owned()), link).map(|()| true)
            });
        }
        Ok(())
    }

    /// Bridges of ours, and gateways on them, that a failed call left in a namespace that is in use. What others added,
    /// such as the router of a network with `egress=gateway`, stays.
    fn delete_foreign_bridges(&self, repairs: &mut Repairs<'_>, name: &str, links: Vec<LinkName>) -> Result<()> {
        let others = |link: &LinkName| matches!(link.as_str(), "lo" | names::INNER_LINK) || names::is_vnic_link(link);
        let mut bridges = BTreeSet::new();
        for bridge in links.into_iter().filter(|link| !others(link)) {
            if !self.fabric.kernel.is_own_bridge(name, &bridge)? {
                continue;
            }
            if self.store.read(|tx| tx.is_bridge_used(name, &bridge))? {
                bridges.insert(bridge);
                continue;
            }
            // Its addresses go with it.
            let what = format!("bridge {bridge} in network namespace {name}");
            repairs.repair("delete", what, "no network or VNIC uses it", |driver| {
                let _lock = driver.fabric.lock(Some(name));
                driver.fabric.bridges.tidy(name, &bridge)
            });
        }
        for (bridge, subnet, address) in self.fabric.kernel.addresses(name)? {
            if bridges.contains(&bridge) && !self.fabric.bridges.may_have(name, &bridge, subnet, address)? {
                let what = format!("gateway address {address} of bridge {bridge} in network namespace {name}");
                repairs.repair("delete", what, "no network uses it", |driver| {
                    let _lock = driver.fabric.lock(Some(name));
                    let stays = driver.fabric.bridges.may_have(name, &bridge, subnet, address)?;
                    if stays {
                        return Ok(false);
                    }
                    driver.fabric.kernel.remove_address(name, &bridge, subnet, address).map(|()| true)
                });
            }
        }
        Ok(())
    }
}
