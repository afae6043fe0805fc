// SPDX-License-Identifier: Apache-2.0
//! ciao-net's metrics, and its checks, which are the same for `/readyz`, `GET /v1/status` and `ciao-net status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use ciao_common::serve::metrics::{Problem, Scrape, Series, Source, single};
use ciao_common::sync::lock;
use ciao_common::types::{InstanceId, TenantId};

use super::tunnels;
use crate::kernel::Namespace;
use crate::kernel::state::{Check, Traffic};
use crate::passes::Passes;
use crate::{Driver, names};

/// Tenants with series of their own; what the others carried is one tenant `(others)`.
const TENANTS: usize = 1000;
/// VNICs with series of their own, with `--metrics-vnics`.
const VNICS: usize = 4000;
/// A pass that is so late, in multiples of its period, does not come any more.
const LATE: u128 = 3;

/// Bytes and packets of something, each way.
#[derive(Default)]
struct Counted {
    bytes: Vec<Series>,
    packets: Vec<Series>,
}

impl Counted {
    /// Adds what a link at the other end counted: it receives what is sent.
    fn add(&mut self, labels: &[(&'static str, &str)], end: Traffic) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        for (direction, (bytes, packets)) in [("sent", end.received), ("received", end.sent)] {
            let labels: Vec<_> = labels.iter().cloned().chain([("direction", direction.to_owned())]).collect();
            self.bytes.push((labels.clone(), bytes as f64));
            self.packets.push((labels, packets as f64));
        }
    }
}

/// What ciao-net tells of itself.
pub struct Report(pub Arc<Driver>);

impl Report {
    /// Traffic of uplinks, the oldest first.
    fn traffic(&self, scrape: &mut Scrape) -> Result<()> {
        let mut uplinks = self.0.store.read(|tx| tx.uplinks())?;
        uplinks.sort_by_key(|uplink| uplink.number);
        let links = self.0.fabric.kernel.traffic(&Namespace::Host)?;
        let (mut counted, mut others) = (Counted::default(), Traffic { received: (0, 0), sent: (0, 0) });
        for (nth, uplink) in uplinks.iter().enumerate() {
            let Some(end) = links.get(&uplink.host_link) else { continue };
            if nth < TENANTS {
                let tenant = names::tenant_of(&uplink.namespace).unwrap_or(&uplink.namespace);
                counted.add(&[("tenant", tenant)], *end);
            } else {
                for (sum, counts) in [(&mut others.received, end.received), (&mut others.sent, end.sent)] {
                    (sum.0, sum.1) = (sum.0 + counts.0, sum.1 + counts.1);
                }
            }
        }
        if uplinks.len() > TENANTS {
            counted.add(&[("tenant", "(others)")], others);
        }
        scrape.counter("ciao_tenant_bytes", "Bytes over a tenant's uplink", counted.bytes);
        scrape.counter("ciao_tenant_packets", "Packets over a tenant's uplink", counted.packets);
        Ok(())
    }

    /// Traffic of VNICs, the oldest first.
    fn vnics(&self, scrape: &mut Scrape) -> Result<()> {
        let vnics = self.0.store.read(|tx| tx.vnics(None))?;
        let (mut counted, mut links) = (Counted::default(), BTreeMap::new());
        for vnic in vnics.iter().take(VNICS) {
            let namespace = Namespace::of(vnic.namespace.as_deref());
            // One that is missing is restored by reconciliation.
            let links = links
                .entry(namespace)
                .or_insert_with_key(|namespace| self.0.fabric.kernel.traffic(namespace).unwrap_or_default());
            let Some(end) = links.get(&vnic.host_link) else { continue };
            let tenant = vnic.tenant.as_ref().map_or("", TenantId::as_str);
            let instance = vnic.instance.as_ref().map_or("", InstanceId::as_str);
            counted.add(&[("tenant", tenant), ("vnic_instance", instance), ("vnic", vnic.id.as_str())], *end);
        }
        scrape.counter("ciao_vnic_bytes", "Bytes over a VNIC", counted.bytes);
        scrape.counter("ciao_vnic_packets", "Packets over a VNIC", counted.packets);
        Ok(())
    }

    /// What the host's rules dropped, and those of tenants' namespaces. A tenant whose rules dropped nothing has no
    /// series; the tenants with the oldest uplinks come first.
    fn drops(&self, scrape: &mut Scrape) -> Result<()> {
        let mut uplinks = self.0.store.read(|tx| tx.uplinks())?;
        uplinks.sort_by_key(|uplink| uplink.number);
        let mut drops: Vec<Series> = Vec::new();
        for uplink in uplinks.iter().take(TENANTS) {
            let tenant = names::tenant_of(&uplink.namespace).unwrap_or(&uplink.namespace);
            // One whose namespace is missing is restored by reconciliation.
            let counts = self.0.fabric.kernel.drops(&Namespace::Named(uplink.namespace.clone())).unwrap_or_default();
            for (reason, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                drops.push((vec![("tenant", tenant.to_owned()), ("reason", reason)], count as f64));
            }
        }
        scrape.counter("ciao_tenant_drops", "Packets that the rules of a tenant's namespace dropped", drops);
        let host = self.0.fabric.kernel.drops(&Namespace::Host)?.into_iter();
        let host = host.map(|(reason, count)| (vec![("reason", reason)], count as f64));
        scrape.counter("ciao_host_drops", "Packets from and to tenants that the host's rules dropped", host);
        Ok(())
    }

    /// What is recorded.
    fn records(&self, scrape: &mut Scrape) -> Result<()> {
        let (counts, tenants) = self.0.store.read(|tx| Ok((tx.attachment_counts()?, tx.tenant_count()?)))?;
        let [networks, endpoints, launchers, dockers, ports] = counts.map(|count| count as f64);
        scrape.gauge("ciao_tenants", "Tenants", single(tenants as f64));
        scrape.gauge("ciao_networks", "Docker networks", single(networks));
        scrape.gauge("ciao_endpoints", "Containers' attachments", single(endpoints));
        scrape.gauge(
            "ciao_vnics",
            "VNICs by owner",
            [(label("owner", "launcher"), launchers), (label("owner", "docker"), dockers)],
        );
        scrape.gauge("ciao_ports", "Published ports", single(ports));
        Ok(())
    }
}

/// One label.
fn label(key: &'static str, value: &str) -> Vec<(&'static str, String)> {
    vec![(key, value.to_owned())]
}

impl Source for Report {
    fn collect(&self, scrape: &mut Scrape) {
        let (store, passes) = (&self.0.store, *lock(&self.0.passes));
        let good = (passes.last_good > 0).then_some(passes.last_good);
        scrape.part(|scrape| self.records(scrape));
        scrape.commits(store.commits());
        scrape.counter(
            "ciao_repairs",
            "Repairs by reconciliation",
            [(label("outcome", "done"), passes.repaired as f64), (label("outcome", "failed"), passes.failed as f64)],
        );
        scrape.gauge("ciao_repairs_failing", "Repairs that failed in the last pass", single(passes.failing as f64));
        scrape.gauge(
            "ciao_reconcile_last_success_timestamp_seconds",
            "End of the last pass of reconciliation without a failure",
            good.map(|at| (vec![], store.by_host_clock(at) as f64 / 1e3)),
        );
        if let Some((count, max)) = self.0.fabric.kernel.tracked() {
            scrape.gauge("ciao_conntrack_entries", "Connections that the host tracks", single(count as f64));
            scrape.gauge("ciao_conntrack_limit", "The most that it tracks", single(max as f64));
        }
        scrape.part(|scrape| tunnels::collect(&self.0, scrape, TENANTS));
        scrape.part(|scrape| self.drops(scrape));
        if self.0.config.metrics_vnics {
            scrape.part(|scrape| self.vnics(scrape));
        }
        scrape.part(|scrape| self.traffic(scrape));
    }

    fn problems(&self) -> Vec<Problem> {
        self.0.problems()
    }
}

impl Driver {
    /// What is not as it should be.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |check, found, remedy: &str, blocks| problems.push(Problem::new(check, found, remedy, blocks));
        if let Err(error) = self.store.settle() {
            let remedy = "free disk space, or end the transaction that locks the database";
            add("database", format!("{error:#}"), remedy, true);
        }
        let Passes { failing, last, .. } = *lock(&self.passes);
        if last == 0 {
            let left = self.fabric.pending.count();
            let found = format!("the first pass since the start is not finished, {left} parts are left");
            let remedy = "wait: calls are answered meanwhile, each when its own network namespace is restored";
            add("reconcile", found, remedy, false);
        }
        let (waited, period) = (self.store.now() - last, self.config.reconcile_every.as_millis());
        if last > 0 && u128::try_from(waited).is_ok_and(|waited| waited > (period * LATE).max(60_000)) {
            let found = format!("no pass has ended for {} seconds", waited / 1000);
            add("reconcile", found, "see the log of ciao-net", true);
        }
        if failing > 0 {
            let remedy = "\"ciao-net reconcile\" lists them with their errors";
            add("reconcile", format!("{failing} repairs failed"), remedy, false);
        }
        if let Some((count, max)) = self.fabric.kernel.tracked()
            && count.saturating_mul(10) > max.saturating_mul(9)
        {
            let found = format!("the host tracks {count} connections of {max}");
            add("connections", found, "raise net.netfilter.nf_conntrack_max", false);
        }
        let unknown = |error| vec![(format!("{error:#}"), "see the log of ciao-net".to_owned())];
        for (found, remedy) in tunnels::problems(self).unwrap_or_else(unknown) {
            add("tunnels", found, &remedy, false);
        }
        for Check { check, found, remedy, blocks } in self.fabric.kernel.prerequisites() {
            if let Some(remedy) = remedy {
                add(check, found, &remedy, blocks);
            }
        }
        problems
    }
}
