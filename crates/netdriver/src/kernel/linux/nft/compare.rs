// SPDX-License-Identifier: Apache-2.0
//! Whether a namespace's tables are as they were loaded: chains and rules as nft lists them, the elements of sets as
//! the kernel has them.
//!
//! What nft makes of a ruleset depends on its version, so the listing that is expected is that of the same ruleset in a
//! new namespace, which lives as long as that takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use anyhow::Result;
use ciao_common::sync::lock;
use netlink_packet_netfilter::NetfilterMessage;
use nix::sched::{CloneFlags, unshare};

use super::{command, dump, elements};
use crate::kernel::element::{Ruleset, Table};
use crate::kernel::linux::namespace;
use crate::kernel::linux::netlink::Netlink;

/// The listings that are expected, by ruleset.
#[derive(Default)]
pub(in crate::kernel::linux) struct Listings(Mutex<BTreeMap<String, String>>);

impl Listings {
    /// How a ruleset is listed that nobody changed.
    pub(super) fn expected(&self, tables: &str) -> Result<String> {
        let mut known = lock(&self.0);
        if let Some(listing) = known.get(tables) {
            return Ok(listing.clone());
        }
        let ruleset = tables.to_owned();
        let listing = namespace::in_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            command::finish(command::start()?, &ruleset)?;
            list(&ruleset)
        })?;
        known.insert(tables.to_owned(), listing.clone());
        Ok(listing)
    }
}

/// The listing of a ruleset's tables, without elements and counters; empty where one is not there.
fn list(tables: &str) -> Result<String> {
    let mut listing = String::new();
    for table in tables_of(tables) {
        // Of two tables in one run, nft 1.0.6 finds only the first.
        let [family, name] = table.names();
        listing += &without_counts(&command::list(&["-s", "-t"], &["table", family, name])?);
    }
    Ok(listing)
}

/// nft 1.1 adds to the size of a set how many elements it has, as a comment: `# count 2`.
fn without_counts(listing: &str) -> String {
    listing.lines().map(|line| line.split("# count").next().unwrap_or_default().trim_end().to_owned() + "\n").collect()
}

/// What differs first in the calling thread's namespace, which is the socket's; `None`: nothing.
pub(super) fn difference(
    socket: &mut Netlink<NetfilterMessage>,
    expected: &str,
    ruleset: &Ruleset,
) -> Result<Option<String>> {
    let found = list(&ruleset.tables)?;
    if found != expected {
        return Ok(Some(
            if found.is_empty() { "its tables are missing" } else { "its tables were changed" }.to_owned(),
        ));
    }
    let mut expected = BTreeMap::<_, BTreeSet<_>>::new();
    for element in &ruleset.elements {
        expected.entry((element.table, element.set)).or_default().insert(elements::content(element));
    }
    for (table, set) in sets_of(&ruleset.tables) {
        let found: BTreeSet<_> = dump::dump(socket, table, set)?.into_iter().collect();
        let expected = expected.remove(&(table, set)).unwrap_or_default();
        let (missing, foreign) = (expected.difference(&found).count(), found.difference(&expected).count());
        if missing + foreign > 0 {
            return Ok(Some(format!("set {set} has {missing} missing elements and {foreign} unexpected ones")));
        }
    }
    Ok(None)
}

/// The table that a line begins.
fn table_at(line: &str) -> Option<Table> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let ["table", family, name, "{"] = words[..] else { return None };
    Table::ALL.into_iter().find(|table| table.names() == [family, name])
}

/// The lines that delete a table, whether it is there or not.
pub(super) fn delete(table: Table) -> String {
    let [family, name] = table.names();
    format!("table {family} {name}\ndelete table {family} {name}\n")
}

/// The tables that a ruleset defines.
pub(super) fn tables_of(tables: &str) -> impl Iterator<Item = Table> {
    tables.lines().filter_map(table_at)
}

/// The names of the sets and maps that a ruleset defines, without those that packets fill.
fn sets_of(tables: &str) -> Vec<(Table, &str)> {
    let (mut found, mut table) = (Vec::new(), Table::Inet);
    for line in tables.lines() {
        table = table_at(line).unwrap_or(table);
        match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            ["set" | "map", name, "{", ..] if !line.contains("dynamic") => found.push((table, name)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packets_fill_is_no_difference() {
        let listing = "table inet ciao {\n\t\tsize 1024\t# count 2\n}\n";
        assert_eq!(without_counts(listing), "table inet ciao {\n\t\tsize 1024\n}\n");
        assert_eq!(without_counts(""), "");
    }

    #[test]
    fn sets_and_tables_are_found_where_they_are_defined() {
        let tables = "table bridge ciao\ntable bridge ciao {\n\tset a { type ifname; }\n\t# set b {\n}\ntable inet ciao {\n\
                      \tmap c { type inet_proto : ipv4_addr; }\n\tset d { type mark; flags dynamic; }\n\tchain d {\n\t\tip saddr @a drop\n\t}\n}\n";
        assert_eq!(sets_of(tables), [(Table::Bridge, "a"), (Table::Inet, "c")]);
        assert_eq!(tables_of(tables).collect::<Vec<_>>(), [Table::Bridge, Table::Inet]);
    }
}
