// SPDX-License-Identifier: Apache-2.0
//! What both daemons have in memory, idle and under load.

use anyhow::Result;
use ciao_tests::lab::Host;

use crate::numbers::bytes;
use crate::process::{Memory, Watch};
use crate::report::{Goal, Section, Table};

pub(super) fn of_both(host: &Host) -> Result<[(&'static str, Memory); 2]> {
    let of = |pid: u32| Watch::new(pid).memory();
    Ok([("ciao-net", of(host.ciao_net().pid()?)?), ("ciao-ipam", of(host.ciao_ipam().pid()?)?)])
}

/// Where the memory of both is from.
pub(super) fn parts(host: &Host) -> Result<[String; 2]> {
    Ok([Watch::new(host.ciao_net().pid()?).parts()?, Watch::new(host.ciao_ipam().pid()?).parts()?])
}

pub(super) fn goals(
    idle: &[(&'static str, Memory)],
    parts: &[String],
    loaded: &[(&'static str, Memory)],
    section: &mut Section,
) {
    let mut table =
        Table::new(["memory", "idle", "of it its own", "most under load", "after the load", "of it its own"]);
    for (((name, idle), (_, loaded)), parts) in idle.iter().zip(loaded).zip(parts) {
        let cells = [idle.resident, idle.anonymous, loaded.peak, loaded.resident, loaded.anonymous].map(bytes);
        table.row([(*name).to_owned()].into_iter().chain(cells));
        let mb = |bytes: u64| bytes as f64 / 1e6;
        section.goals.push(Goal::at_most(format!("{name}, RSS idle"), 6.0, mb(idle.resident), " MB").rest(parts));
        section.goals.push(
            Goal::at_most(format!("{name}, RSS under load"), 12.0, mb(loaded.peak), " MB")
                .rest(format!("idle {parts}")),
        );
    }
    section.tables.push(table);
}
