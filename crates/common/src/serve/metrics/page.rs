// SPDX-License-Identifier: Apache-2.0
//! What is collected for one answer, and how the library writes it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use anyhow::Result;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::super::calls::{BOUNDS, Calls, OUTCOMES};
use crate::store::Commits;

/// A labelled value.
pub type Series = (Vec<(&'static str, String)>, f64);

/// Collects metrics.
#[derive(Default)]
pub struct Scrape {
    families: Vec<(MetricType, &'static str, &'static str, Vec<Series>)>,
    /// Why parts are missing.
    pub(super) failures: BTreeSet<String>,
}

impl Scrape {
    /// Collects some of the metrics. An error keeps nothing of the others.
    pub fn part(&mut self, collect: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = collect(self) {
            self.failures.insert(format!("{error:#}"));
        }
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, series: impl IntoIterator<Item = Series>) {
        self.families.push((MetricType::Gauge, name, help, series.into_iter().collect()));
    }

    /// Adds a counter, whose name ends in `_total` when it is shown.
    pub fn counter(&mut self, name: &'static str, help: &'static str, series: impl IntoIterator<Item = Series>) {
        self.families.push((MetricType::Counter, name, help, series.into_iter().collect()));
    }

    /// What a database has committed.
    pub fn commits(&mut self, Commits { commits, changes }: Commits) {
        self.counter("ciao_commits", "Transactions of the database", single(commits as f64));
        self.counter("ciao_changes", "Changes in these transactions", single(changes as f64));
    }
}

/// One value without labels.
pub fn single(value: f64) -> [Series; 1] {
    [(Vec::new(), value)]
}

/// One answer, as the library takes it.
pub(super) struct Page {
    pub(super) scrape: Scrape,
    pub(super) calls: Vec<Arc<Calls>>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (kind, name, help, series) in &self.scrape.families {
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            for (labels, value) in series {
                let mut one = metric.encode_family(labels)?;
                match kind {
                    MetricType::Counter => one.encode_counter::<NoLabelSet, f64, f64>(value, None)?,
                    _ => one.encode_gauge(value)?,
                }
            }
        }
        let all = || self.calls.iter().flat_map(|calls| calls.methods().map(|(m, counts)| (calls.service, m, counts)));
        let mut metric = encoder.encode_descriptor("ciao_calls", "Calls by outcome", None, MetricType::Counter)?;
        for (service, method, counts) in all() {
            for (outcome, count) in OUTCOMES.iter().zip(counts.outcomes()) {
                let labels = [("service", service), ("method", method), ("outcome", outcome)];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
            }
        }
        let help = "Time from a call's head to its reply";
        let mut metric = encoder.encode_descriptor("ciao_call_duration_seconds", help, None, MetricType::Histogram)?;
        for (service, method, counts) in all() {
            let (buckets, seconds) = counts.durations();
            let bounds = BOUNDS.into_iter().chain([f64::INFINITY]).zip(buckets).collect::<Vec<_>>();
            let labels = [("service", service), ("method", method)];
            let count = buckets.iter().sum();
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(seconds, count, &bounds, None)?;
        }
        Ok(())
    }
}
