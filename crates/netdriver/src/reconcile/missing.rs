// SPDX-License-Identifier: Apache-2.0
//! What records need and is missing, repaired a namespace at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use ciao_common::store::{Owner, Vnic};
use ciao_common::types::{LinkName, VnicId};

use super::repairs::{Forgotten, Repairs};
use super::{Depth, Known};
use crate::fabric::fault::{Fault, Subject};
use crate::fabric::inspect::Space;
use crate::fabric::pending::{Part, Work};
use crate::kernel::state::Seen;
use crate::kernel::{LinkLocation, Namespace};
use crate::{Driver, fabric};

/// How long a container's link may be gone before its endpoint is.
const ENDING: Duration = Duration::from_secs(15);

impl Driver {
    /// The host's part, and each namespace's.
    pub(super) fn restore_all(&self, repairs: &mut Repairs<'_>, depth: Depth, docker: Option<&Known>) -> Result<()> {
        let closely = depth != Depth::Changed;
        let host = self.fabric.look_at_host()?;
        self.restore_host(repairs, &host, closely);
        let all_known = self.are_all_known_recorded(docker)?;
        let namespaces = self.store.read(|tx| tx.recorded_namespaces())?;
        repairs.each(&namespaces, |repairs, namespace| {
            let restored = self.restore_in(repairs, namespace.as_deref(), &host, closely).and_then(|space| {
                self.restart_containers(repairs, &space, &host)?;
                if all_known { self.reclaim_stuck(repairs, &space) } else { Ok(()) }
            });
            repairs.step(describe(namespace.as_deref()), restored);
        });
        Ok(())
    }

    /// Restores what is missing where links, addresses, routes or forwarding changed. Returns where that failed.
    pub(super) fn restore_changed(&self, namespaces: &BTreeSet<Namespace>) -> BTreeSet<Namespace> {
        let mut repairs = Repairs::new(self, false);
        let found = self.fabric.look_at_host().and_then(|host| Ok((host, self.store.read(|tx| tx.uplinks())?)));
        let (host, uplinks) = match found {
            Ok(found) => found,
            Err(error) => {
                repairs.step(describe(None), Err(error));
                return namespaces.clone();
            }
        };
        let mut inside: BTreeSet<_> = namespaces.iter().filter_map(Namespace::name).map(str::to_owned).collect();
        let mut failed = BTreeSet::new();
        if namespaces.contains(&Namespace::Host) {
            if self.restore_host(&mut repairs, &host, false) {
                repairs.step("networks on other hosts", self.fabric.follow_all_networks());
            }
            let is_down = |link: &LinkName| !host.links.get(link).is_some_and(|link| link.is_up);
            inside
                .extend(uplinks.into_iter().filter(|uplink| is_down(&uplink.host_link)).map(|uplink| uplink.namespace));
            // VNICs on bridges of the host itself.
            let restored = self.restore_in(&mut repairs, None, &host, false).map(drop);
            repairs.step(describe(None), restored);
            failed.extend(repairs.has_failed().then_some(Namespace::Host));
        }
        for name in inside {
            let mut repairs = Repairs::new(self, false);
            // One that goes is reported too.
            let is_used = self.store.read(|tx| tx.is_namespace_used(&name));
            let restored = is_used.and_then(|is_used| {
                if is_used { self.restore_in(&mut repairs, Some(&name), &host, false).map(drop) } else { Ok(()) }
            });
            repairs.step(describe(Some(&name)), restored);
            failed.extend(repairs.has_failed().then_some(Namespace::Named(name)));
        }
        failed
    }

    /// Restores tenants' rules that somebody else changed. Returns where that failed.
    pub(super) fn restore_changed_rules(&self, namespaces: &BTreeSet<Namespace>) -> BTreeSet<Namespace> {
        let differs = |name: &str| -> Result<bool> {
            let is_used = self.store.read(|tx| tx.is_namespace_used(name))?;
            Ok(is_used && self.fabric.tenant_rules.difference(name, false)?.is_some())
        };
        // Where they cannot be compared, the repair finds it again and says so.
        let is_changed = |namespace: &&Namespace| namespace.name().is_some_and(|name| differs(name).unwrap_or(true));
        let changed: BTreeSet<_> = namespaces.iter().filter(is_changed).cloned().collect();
        if changed.is_empty() { changed } else { self.restore_changed(&changed) }
    }

    /// Returns whether other hosts were to be reached otherwise: this host's address has come or gone.
    fn restore_host(&self, repairs: &mut Repairs<'_>, host: &Seen, closely: bool) -> bool {
        let work = self.begin(repairs, Part::Host);
        let mut are_hosts_changed = false;
        match self.fabric.host_faults(host, closely) {
            Ok(faults) => {
                are_hosts_changed = faults.iter().any(|fault| matches!(fault.subject, Subject::Hosts));
                restore(repairs, &faults);
            }
            Err(error) => repairs.step("rules of the host", Err(error)),
        }
        // Whoever needs what could not be restored meets its error again.
        work.into_iter().for_each(Work::done);
        are_hosts_changed
    }

    fn restore_in(
        &self,
        repairs: &mut Repairs<'_>,
        namespace: Option<&str>,
        host: &Seen,
        closely: bool,
    ) -> Result<Space> {
        let work = self.begin(repairs, Part::Space(namespace.map(str::to_owned)));
        let mut space = self.fabric.space(namespace)?;
        if repairs.dry {
            let Forgotten { networks, vnics, .. } = &repairs.forgotten;
            space.networks.retain(|network| !networks.contains(&network.id));
            space.vnics.retain(|vnic| !vnics.contains(&vnic.id));
            if space.networks.is_empty() && space.vnics.is_empty() {
                return Ok(space);
            }
        }
        let mut faults = self.fabric.faults(&space, host, closely)?;
        faults.retain(|fault| !matches!(fault.subject, Subject::ContainerLink(_)));
        for fault in &mut faults {
            if let Subject::Pair(vnic) = &fault.subject
                && self.has_lost_its_link(repairs, &vnic.id)?
            {
                fault.why += "; restart its container";
            }
        }
        if restore(repairs, &faults) {
            work.into_iter().for_each(Work::done);
        }
        Ok(space)
    }

    /// What is still to be done since the start; no call does it meanwhile.
    fn begin(&self, repairs: &Repairs<'_>, part: Part) -> Option<Work<'_>> {
        if repairs.dry { None } else { self.fabric.pending.begin(part) }
    }

    /// Running containers without network, because their links were deleted.
    fn restart_containers(&self, repairs: &mut Repairs<'_>, space: &Space, host: &Seen) -> Result<()> {
        let faults = self.fabric.faults(space, host, false)?;
        for fault in faults.iter().filter(|fault| matches!(fault.subject, Subject::ContainerLink(_))) {
            let Subject::ContainerLink(vnic) = &fault.subject else { continue };
            if self.has_lost_its_link(repairs, &vnic.id)? {
                repairs.repair(fault.action, &fault.subject, &fault.why, |driver| driver.fabric.repair(fault));
            }
        }
        Ok(())
    }

    /// Whether a VNIC without links has an endpoint that is neither just being made nor just ending.
    fn has_lost_its_link(&self, repairs: &Repairs<'_>, vnic: &VnicId) -> Result<bool> {
        let endpoint = self.store.read(|tx| tx.endpoint_of_vnic(vnic))?;
        let endpoint = endpoint.filter(|endpoint| !repairs.forgotten.endpoints.contains(&endpoint.id));
        Ok(endpoint.is_some_and(|endpoint| endpoint.created < self.store.ago(ENDING)))
    }

    /// Whether every endpoint of Docker is recorded, so that a VNIC without an endpoint is unused.
    fn are_all_known_recorded(&self, docker: Option<&Known>) -> Result<bool> {
        let Some(known) = docker.and_then(|docker| docker.endpoints.as_ref()) else { return Ok(false) };
        let recorded: BTreeSet<_> = self.store.read(|tx| tx.endpoints())?.into_iter().map(|one| one.id).collect();
        Ok(known.is_subset(&recorded))
    }

    /// Launchers' VNICs whose links are in a namespace unknown to Docker.
    fn reclaim_stuck(&self, repairs: &mut Repairs<'_>, space: &Space) -> Result<()> {
        for vnic in space.vnics.iter().filter(|vnic| vnic.owner == Owner::Launcher) {
            if !self.is_stuck(vnic)? {
                continue;
            }
            self.take_back(repairs, vnic);
        }
        Ok(())
    }

    /// Makes a launcher's VNIC again whose link is with something that Docker does not know.
    pub(super) fn take_back(&self, repairs: &mut Repairs<'_>, vnic: &Vnic) {
        let why = "its link is in a container unknown to Docker";
        repairs.repair("create", Subject::Pair(vnic.clone()), why, |driver| {
            let namespace = Namespace::of(vnic.namespace.as_deref());
            driver.fabric.kernel.delete_link(&namespace, &vnic.host_link)?;
            driver.fabric.repair(&Fault::new("create", Subject::Pair(vnic.clone()), ""))
        });
    }

    /// Whether a launcher's VNIC, seen in a container, has no endpoint: the engine was killed while it started that
    /// container, and something of it is left. A container that is just ending returns its link before its endpoint
    /// is deleted, so a second look tells the two apart.
    fn is_stuck(&self, vnic: &Vnic) -> Result<bool> {
        let is_in_container =
            || Ok::<_, Error>(self.fabric.kernel.locate(&fabric::veth(vnic))? == LinkLocation::Container);
        if !is_in_container()? {
            return Ok(false);
        }
        let has_endpoint = self.store.read(|tx| tx.endpoint_of_vnic(&vnic.id))?.is_some();
        Ok(!has_endpoint && is_in_container()?)
    }
}

/// Repairs faults in their order. Where a namespace or its rules cannot be repaired, nothing in it is set up: `false`.
fn restore(repairs: &mut Repairs<'_>, faults: &[Fault]) -> bool {
    let mut blocked_by = None;
    for fault in faults {
        let ok = repairs.repair(fault.action, &fault.subject, &fault.why, |driver| match blocked_by {
            Some(first) => Err(anyhow!("not attempted: {first} is not repaired")),
            None => driver.fabric.repair(fault),
        });
        if !ok && fault.blocks_others() && blocked_by.is_none() {
            blocked_by = Some(&fault.subject);
        }
    }
    blocked_by.is_none()
}

pub(super) fn describe(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "bridges of the host".to_owned(), |name| format!("network namespace {name}"))
}
