// SPDX-License-Identifier: Apache-2.0
//! Whether the file grows while addresses come and go.

use std::time::Duration;

use anyhow::Result;

use super::{Size, file_sizes};
use crate::calls::{self, Lease};
use crate::host;
use crate::load::{Client, Limit, Load};
use crate::numbers::{bytes, count, time};
use crate::report::{Goal, Section, Table};

const CLIENTS: usize = 64;
const WARM: usize = 2_500;

pub(super) fn measure(size: &Size, section: &mut Section) -> Result<()> {
    let host = host::without_docker("churn")?;
    let ipam = host::ipam_socket(&host);
    let pool = calls::request_pool(&ipam, "churn", "10.0.0.0/8", "10.0.0.1")?;
    let load = Load::kept_alive(ipam);
    let run = |pairs: usize| {
        let mut clients: Vec<Box<dyn Client>> =
            (0..CLIENTS).map(|_| Box::new(Lease::new(&pool)) as Box<dyn Client>).collect();
        load.run(&mut clients, Limit { time: Duration::from_secs(900), calls: 2 * pairs })
    };
    // Before that the log has not been written back once, and neither file has its size.
    run(WARM.max(size.churn / 10))?;
    let [file, log] = file_sizes(&host)?;
    let churn = run(size.churn)?;
    let [file_after, log_after] = file_sizes(&host)?;
    let mut table = Table::new(["requested and released", "took", "database before", "after", "log before", "after"]);
    let pairs = churn.calls() / 2;
    let sizes = [file, file_after, log, log_after].map(bytes);
    table.row([count(pairs), time(churn.elapsed)].into_iter().chain(sizes));
    section.tables.push(table);
    let ratio = (file_after + log_after) as f64 / (file + log) as f64;
    let goal = Goal::at_most(format!("file after {} leases came and went", count(pairs)), 1.0, ratio, " ×");
    section.goals.push(
        goal.rest("the newest 100,000 events of leases are in it, and older ones are deleted a hundred at a time"),
    );
    Ok(())
}
