// SPDX-License-Identifier: Apache-2.0
//! ciao-ipam's metrics and checks.

use std::sync::Arc;

use anyhow::Result;
use ciao_common::serve::metrics::{Problem, Scrape, Source, single};
use ciao_common::store::Store;

/// Sets of addresses with series of their own: those with most addresses in use.
const SETS: u32 = 1000;

/// What ciao-ipam tells of itself.
pub(crate) struct Report(pub(crate) Arc<Store>);

impl Report {
    fn pools(&self, scrape: &mut Scrape) -> Result<()> {
        let ((pools, sets), leases) = self.0.read(|tx| Ok((tx.pool_use(SETS)?, tx.lease_counts()?)))?;
        scrape.gauge("ciao_pools", "Pools that Docker holds", single(pools as f64));
        let labels = |set: &ciao_common::store::SetUse| {
            let tenant = set.tenant.as_ref().map_or_else(String::new, ToString::to_string);
            vec![("tenant", tenant), ("subnet", set.subnet.to_string()), ("space", set.scope.to_string())]
        };
        let used = sets.iter().map(|set| (labels(set), set.used as f64));
        scrape.gauge("ciao_pool_addresses_used", "Addresses of a subnet that are granted or reserved", used);
        let size = sets.iter().map(|set| {
            let usable = set.subnet.usable();
            (labels(set), (usable.last - usable.first) as f64 + 1.0)
        });
        scrape.gauge("ciao_pool_addresses", "Addresses of a subnet that containers and gateways can have", size);
        let states = leases.into_iter().map(|(state, count)| (vec![("state", state)], count as f64));
        scrape.gauge("ciao_leases", "Addresses by state", states);
        Ok(())
    }
}

impl Source for Report {
    fn collect(&self, scrape: &mut Scrape) {
        scrape.part(|scrape| self.pools(scrape));
        scrape.commits(self.0.commits());
    }

    fn problems(&self) -> Vec<Problem> {
        let remedy = "free disk space, or end the transaction that locks the database";
        let problem = |error| Problem::new("database", format!("{error:#}"), remedy, true);
        self.0.settle().err().map(problem).into_iter().collect()
    }
}
