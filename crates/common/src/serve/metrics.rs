// SPDX-License-Identifier: Apache-2.0
//! `/metrics` in OpenMetrics' text form, `/healthz` and `/readyz`, on a socket of their own. What is not a counter is
//! read when it is asked for.

mod address;
mod page;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::calls::Calls;
use super::server::{Call, Handler, JSON, Reply, Request};
use crate::sync::lock;
pub use address::MetricsAddress;
use page::Page;
pub use page::{Scrape, Series, single};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Something that is not as it should be, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What was checked.
    pub check: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
    /// Whether calls cannot be answered as they should, so that `/readyz` fails.
    pub blocks: bool,
}

impl Problem {
    /// What is wrong with what was checked.
    pub fn new(check: &str, problem: String, remedy: &str, blocks: bool) -> Self {
        Self { check: check.to_owned(), problem, remedy: remedy.to_owned(), blocks }
    }
}

/// What a daemon tells of itself.
pub trait Source: Send + Sync + 'static {
    /// Its metrics.
    fn collect(&self, scrape: &mut Scrape);

    /// What is not as it should be.
    fn problems(&self) -> Vec<Problem>;
}

/// What answers on the metrics' socket.
pub struct Metrics {
    calls: Vec<Arc<Calls>>,
    source: Arc<dyn Source>,
    info: Series,
    /// The errors of the last scrape, which are logged.
    logged: Mutex<BTreeSet<String>>,
}

impl Metrics {
    /// The metrics of a program with those calls.
    pub fn new(program: &str, version: &str, calls: Vec<Arc<Calls>>, source: Arc<dyn Source>) -> Self {
        let info = (vec![("program", program.to_owned()), ("version", version.to_owned())], 1.0);
        Self { calls, source, info, logged: Mutex::default() }
    }

    fn render(&self) -> Result<String> {
        let mut scrape = Scrape::default();
        scrape.gauge("ciao_build_info", "The program's name and version", [self.info.clone()]);
        let problems = self.source.problems();
        scrape.gauge("ciao_problems", "Checks that found something wrong", single(problems.len() as f64));
        self.source.collect(&mut scrape);
        let failures = scrape.failures.len() as f64;
        scrape.gauge("ciao_scrape_failures", "Parts of these metrics that cannot be read", single(failures));
        let mut logged = lock(&self.logged);
        for error in scrape.failures.difference(&logged) {
            log::warn!("metrics are incomplete: {error}");
        }
        logged.clone_from(&scrape.failures);
        drop(logged);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Page { scrape, calls: self.calls.clone() }));
        let mut page = String::new();
        text::encode(&mut page, &registry).context("write the metrics")?;
        Ok(page)
    }

    fn ready(&self) -> Reply {
        let problems = self.source.problems();
        let status = if problems.iter().any(|problem| problem.blocks) { 503 } else { 200 };
        Reply::json(status, JSON, &problems)
    }
}

impl Handler for Metrics {
    fn handle(&self, request: Request<'_>) -> Reply {
        match (request.method, request.path) {
            ("GET", "/metrics") => match self.render() {
                Ok(page) => Reply::new(200, CONTENT_TYPE, page.into()),
                Err(error) => self.refuse(500, &format!("{error:#}")),
            },
            ("GET", "/healthz") => Reply::new(200, "text/plain", "ok\n".into()),
            ("GET", "/readyz") => self.ready(),
            ("GET", _) => self.refuse(404, "known are /metrics, /healthz and /readyz"),
            _ => self.refuse(405, "only GET is known"),
        }
    }

    /// Alive is also what waits for the disk.
    fn begin(&self, request: Request<'_>) -> Call {
        if request.path == "/healthz" { Call::Done(self.handle(request)) } else { Call::Deferred }
    }

    fn keeps_connections(&self) -> bool {
        false
    }

    fn refuse(&self, status: u16, sentence: &str) -> Reply {
        Reply::new(status, "text/plain", format!("{sentence}\n").into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::bail;

    use super::*;

    struct Sick;

    impl Source for Sick {
        fn collect(&self, scrape: &mut Scrape) {
            scrape.gauge("ciao_networks", "Networks", single(3.0));
            scrape.part(|_| bail!("the kernel does not answer"));
            scrape.counter("ciao_commits", "Commits", single(7.0));
        }

        fn problems(&self) -> Vec<Problem> {
            vec![Problem::new("disk", "full".to_owned(), "free some", true)]
        }
    }

    fn get(metrics: &Metrics, path: &str) -> (u16, String) {
        let reply = metrics.handle(Request { method: "GET", path, query: "", body: &[] });
        (reply.status, String::from_utf8(reply.body).unwrap())
    }

    #[test]
    fn metrics_have_calls_and_what_the_source_has() {
        let calls = Calls::new("network", ["/NetworkDriver.Join"]);
        let metrics = Metrics::new("ciao-net", "1.2.3", vec![Arc::clone(&calls)], Arc::new(Sick));
        calls.add("POST", "/NetworkDriver.Join", 200, Duration::from_millis(2));
        let (status, page) = get(&metrics, "/metrics");
        assert_eq!(status, 200);
        for line in [
            "ciao_build_info{program=\"ciao-net\",version=\"1.2.3\"} 1.0",
            "ciao_networks 3.0",
            "ciao_commits_total 7.0",
            "ciao_problems 1.0",
            "ciao_scrape_failures 1.0",
            "ciao_calls_total{service=\"network\",method=\"Join\",outcome=\"ok\"} 1",
            "ciao_call_duration_seconds_bucket{le=\"0.0025\",service=\"network\",method=\"Join\"} 1",
            "ciao_call_duration_seconds_bucket{le=\"+Inf\",service=\"network\",method=\"Join\"} 1",
            "# EOF",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }

    #[test]
    fn a_daemon_with_a_problem_that_blocks_is_alive_and_not_ready() {
        let metrics = Metrics::new("ciao-net", "1", Vec::new(), Arc::new(Sick));
        assert_eq!(get(&metrics, "/healthz").0, 200);
        let (status, body) = get(&metrics, "/readyz");
        assert!(status == 503 && body.contains("free some"), "{body}");
        assert_eq!(get(&metrics, "/").0, 404);
    }
}
