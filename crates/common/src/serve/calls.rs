// SPDX-License-Identifier: Apache-2.0
//! Calls of a socket, counted by method and outcome with their duration. A call costs a few atomic additions, no lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histogram's buckets, in seconds; one more has the rest.
pub const BOUNDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// `refused`: a 4xx, `failed`: a 5xx, which is what a plugin answers to Docker whenever it refuses.
pub const OUTCOMES: [&str; 3] = ["ok", "refused", "failed"];

/// The counters of one method.
#[derive(Default)]
pub struct Counts {
    outcomes: [AtomicU64; OUTCOMES.len()],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Counts {
    fn add(&self, status: u16, elapsed: Duration) {
        let outcome = match status {
            0..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        let seconds = elapsed.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.outcomes[outcome].fetch_add(1, Ordering::Relaxed);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Calls by outcome, in the order of [`OUTCOMES`].
    pub fn outcomes(&self) -> [u64; OUTCOMES.len()] {
        self.outcomes.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Calls in each bucket, not cumulated, and seconds in all.
    pub fn durations(&self) -> ([u64; BOUNDS.len() + 1], f64) {
        let buckets = self.buckets.each_ref().map(|count| count.load(Ordering::Relaxed));
        (buckets, self.micros.load(Ordering::Relaxed) as f64 / 1e6)
    }
}

/// The calls of one socket. Its methods are fixed, so that nobody's requests make more series.
pub struct Calls {
    /// `network`, `ipam` or `control`.
    pub service: &'static str,
    methods: BTreeMap<String, Counts>,
    other: Counts,
}

impl Calls {
    /// A plugin's methods are paths, `/NetworkDriver.Join`; the control socket's are `GET /v1/vnics/{id}`.
    pub fn new<M: Into<String>>(service: &'static str, methods: impl IntoIterator<Item = M>) -> Arc<Self> {
        let methods = methods.into_iter().map(|method| (method.into(), Counts::default())).collect();
        Arc::new(Self { service, methods, other: Counts::default() })
    }

    /// Counts a call.
    pub fn add(&self, method: &str, path: &str, status: u16, elapsed: Duration) {
        self.counts(method, path).add(status, elapsed);
    }

    fn counts(&self, method: &str, path: &str) -> &Counts {
        if let Some(counts) = self.methods.get(path) {
            return counts;
        }
        self.methods.get(&name(method, path)).unwrap_or(&self.other)
    }

    /// Each method's short name with its counters.
    pub fn methods(&self) -> impl Iterator<Item = (&str, &Counts)> {
        let known = self.methods.iter().map(|(name, counts)| {
            let method = name.strip_prefix('/').and_then(|path| path.split_once('.'));
            (method.map_or(name.as_str(), |(_, method)| method), counts)
        });
        known.chain([("other", &self.other)])
    }
}

/// What a control socket's call is counted as: all that is below a resource is one.
pub(super) fn name(method: &str, path: &str) -> String {
    let mut parts = path.trim_matches('/').splitn(3, '/');
    let (version, resource) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let id = if parts.next().is_some() { "/{id}" } else { "" };
    format!("{method} /{version}/{resource}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_outcome_and_unknown_ones_together() {
        let calls = Calls::new("control", ["GET /v1/vnics", "GET /v1/vnics/{id}", "/NetworkDriver.Join"]);
        for (method, path, status) in [
            ("GET", "/v1/vnics", 200),
            ("GET", "/v1/vnics/0123456789", 404),
            ("GET", "/v1/vnics/ab", 200),
            ("POST", "/NetworkDriver.Join", 500),
            ("GET", "/etc/passwd", 404),
            ("BREW", "/v1/vnics", 404),
        ] {
            calls.add(method, path, status, Duration::from_millis(3));
        }
        let counted: BTreeMap<_, _> = calls.methods().map(|(name, counts)| (name, counts.outcomes())).collect();
        let wanted = [
            ("GET /v1/vnics", [1, 0, 0]),
            ("GET /v1/vnics/{id}", [1, 1, 0]),
            ("Join", [0, 0, 1]),
            ("other", [0, 2, 0]),
        ];
        assert_eq!(counted, BTreeMap::from(wanted));
        let (_, join) = calls.methods().find(|(name, _)| *name == "Join").unwrap();
        let (buckets, seconds) = join.durations();
        assert_eq!((buckets[3], buckets.iter().sum::<u64>()), (1, 1), "up to 5 ms");
        assert!((seconds - 0.003).abs() < 1e-9);
    }
}
